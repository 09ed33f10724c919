"""The first look at a model file: right for sound files, one clear error for everything else."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llorch import errors
from roles.worker.backend.model_file import Header, read_header, read_vocabulary
from tests.support import models


def test_a_sound_file_says_its_architecture_and_context(tmp_path: Path) -> None:
    path = models.make(tmp_path / "m.gguf")

    assert read_header(path) == Header("llama", 512)


def test_a_sound_file_tells_its_vocabulary(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(models.make(tmp_path / "m.gguf"))

    assert vocabulary.kind == "gpt2"
    assert vocabulary.names[256:258] == ["<s>", "</s>"]
    assert vocabulary.types[255:258] == [1, 3, 3]
    assert len(vocabulary.names) == len(vocabulary.types)


@pytest.mark.parametrize("kept", [0, 3, 4, 20, 40, 90])
def test_a_header_that_is_cut_off_is_invalid(tmp_path: Path, kept: int) -> None:
    path = models.make(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:kept])

    for read in (read_header, read_vocabulary):
        with pytest.raises(errors.ModelInvalid):
            read(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_an_expected_error(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00" + rest)

    with pytest.raises(errors.ModelInvalid):
        read_header(path)
    with contextlib.suppress(errors.ModelInvalid):
        read_vocabulary(path)


def test_a_missing_file_and_a_folder_are_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(errors.ModelNotFound):
            read_header(path)
