"""The constants, against those of the reference library."""

from __future__ import annotations

import gguf

from roles.pool.model_cache.quantisation import BLOCKS, FILE_TYPES


def test_blocks_are_those_of_the_reference_library() -> None:
    theirs = {int(kind): tuple(sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}

    assert {kind: BLOCKS[kind] for kind in theirs} == theirs


def test_file_types_are_called_as_in_the_reference_library() -> None:
    theirs = {
        int(kind): name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for name, kind in gguf.LlamaFileType.__members__.items()
        if name != "GUESSED"
    }

    assert dict(FILE_TYPES) == theirs
