"""What a file from before GGUF says of its model, and which of them nothing reads any more."""

from __future__ import annotations

import io
import struct

import gguf
import pytest

from llorch import ggml
from llorch.errors import ModelIncompatible, ModelInvalid
from llorch.ggml import OldModel
from tests.support import old_models
from tests.support.models import TINY
from tests.support.old_models import CTX, F16, F32, HEADS, LAYERS, Q4_0, Q8_0, WIDTH

OTHERS = ("dolly-v2", "gpt2", "gptj", "gptneox", "mpt", "replit", "starcoder")


def read(data: bytes) -> OldModel:
    return ggml.read(io.BytesIO(data), len(data))


@pytest.mark.parametrize("architecture", OTHERS)
@pytest.mark.parametrize("kind", [F32, Q4_0])
def test_an_architecture_is_known_by_the_order_of_what_the_file_holds(
    architecture: str, kind: gguf.GGMLQuantizationType
) -> None:
    data = old_models.other(architecture, kind=kind)

    found = read(data)

    assert (found.form, found.architecture, found.context_length) == ("GGML", architecture, CTX)
    assert (found.width, found.heads, found.layers, found.kv_width) == (WIDTH, HEADS, LAYERS, WIDTH)
    assert found.quantization == ("F32" if kind == F32 else "Q4_0")
    assert found.float_cache == (architecture in {"gpt2", "starcoder"})
    assert found.weights_bytes < len(data) < found.weights_bytes + 10_000


def test_a_llama_is_known_whatever_its_numbers_and_does_not_say_its_context() -> None:
    found = [read(old_models.llama(kind=kind)) for kind in (F32, F16, Q4_0, Q8_0)]

    assert [each.quantization for each in found] == ["F32", "F16", "Q4_0", "Q8_0"]
    assert {(each.form, each.architecture, each.context_length) for each in found} == {("GGJT v3", "llama", 2048)}
    assert {(each.width, each.heads, each.layers) for each in found} == {(TINY.n_embd, TINY.n_head, TINY.n_layer)}
    assert {each.vocab_size for each in found} == {len(old_models.said()[0])}
    assert {each.max_token_bytes for each in found} == {max(len(token) for token in old_models.said()[0])}


@pytest.mark.parametrize(
    "data",
    [
        old_models.llama(kind=Q8_0, version=2),
        old_models.llama(kind=Q4_0, version=1),
        old_models.llama(version=4),
        old_models.other("gptj", kind=Q8_0, quantisation=1000),
    ],
    ids=["ggjt-2", "ggjt-1", "ggjt-4", "first-quantisation"],
)
def test_what_nothing_reads_any_more_is_refused_by_its_name(data: bytes) -> None:
    with pytest.raises(ModelIncompatible, match=r"GGJT v[124]|GGML"):
        read(data)


def test_plain_numbers_are_read_in_every_version() -> None:
    found = [read(old_models.llama(kind=F16, version=version)).form for version in (1, 2, 3)]

    assert found == ["GGJT v1", "GGJT v2", "GGJT v3"]


@pytest.mark.parametrize("architecture", ["llama", *OTHERS])
def test_a_file_cut_off_anywhere_is_refused(architecture: str) -> None:
    data = old_models.llama() if architecture == "llama" else old_models.other(architecture)

    for length in (*range(60), 1000, len(data) // 2, len(data) - 1):
        with pytest.raises(ModelInvalid):
            read(data[:length])


def test_numbers_that_no_model_can_have_are_refused_before_anything_is_taken_from_them() -> None:
    huge = b"tjgg" + struct.pack("<8I", 3, *([2**32 - 1] * 7))
    endless = b"lmgg" + struct.pack("<7I", 2**20, 64, 64, 2, 2, 0, 2**20) + b"\xff" * 64
    quants = old_models.llama().replace(struct.pack("<3I", 2, 21, 0), struct.pack("<3I", 2, 21, 4), 1)

    for data in (huge, endless, b"", b"GGUF" + bytes(64), b"this is not a model\n" * 100):
        with pytest.raises(ModelInvalid):
            read(data)
    with pytest.raises(ModelIncompatible, match="type 4"):
        read(quants)


def test_the_first_four_bytes_tell_an_old_file_from_others() -> None:
    assert [ggml.is_old(data) for data in (b"tjgg\3\0\0\0", b"lmgg", b"fmgg", b"GGUF", b"PK\3\4", b"")] == [
        *(True, True, True),
        *(False, False, False),
    ]
