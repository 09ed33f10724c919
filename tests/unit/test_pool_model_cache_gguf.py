"""What is read from a GGUF file: the truth for a sound one, a refusal for every other one."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import gguf as reference
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.errors import ModelIncompatible, ModelInvalid
from roles.pool.model_cache import gguf
from roles.pool.model_cache.catalogue import ASSETS

HAIKU = (ASSETS / "haiku.gguf").read_bytes()
HEADER_BYTES = 40_000


def read(data: bytes) -> gguf.Metadata:
    return gguf.read(io.BytesIO(data), len(data))


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def header(*pairs: bytes, version: int = 3, tensors: int = 0, count: int | None = None) -> bytes:
    counted = len(pairs) if count is None else count
    return b"GGUF" + struct.pack("<IQQ", version, tensors, counted) + b"".join(pairs)


ARCHITECTURE = pair("general.architecture", 8, text("llama"))


def write(path: Path, *, kv: int | list[int] = 2) -> bytes:
    """Write a model with the reference library: two layers, three tensors, five tokens."""
    writer = reference.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(kv)
    writer.add_file_type(7)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<s>", "▁word", "<0xAB>", "▁▁", "ab"])
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("a", np.zeros((3, 64), np.float32))
    writer.add_tensor("b", np.zeros((64,), np.float16))
    rows = reference.quantize(np.zeros((2, 64), np.float32), reference.GGMLQuantizationType.Q8_0)
    writer.add_tensor("c", rows, raw_dtype=reference.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_a_written_model_is_read_back_whole(tmp_path: Path) -> None:
    assert read(write(tmp_path / "m.gguf")) == gguf.Metadata(
        architecture="llama",
        name="tiny",
        context_length=128,
        block_count=2,
        embedding_length=64,
        head_count=4,
        kv_heads=(2, 2),
        key_length=16,
        value_length=16,
        quantization="Q8_0",
        vocab_size=5,
        max_token_bytes=5,
        chat_template="{{ messages }}",
        parameters=3 * 64 + 64 + 2 * 64,
        weights_bytes=3 * 64 * 4 + 64 * 2 + 2 * 2 * 34,
        split_count=0,
    )


def test_what_the_chat_templates_know_is_told_and_one_may_be_for_tools_alone() -> None:
    plain = pair("tokenizer.chat_template", 8, text("{{ messages }}<think>"))
    other = pair("tokenizer.chat_template.tool_use", 8, text("{{ tools }}"))

    assert read(header(ARCHITECTURE, plain)).template_knows == ("thinking",)
    assert read(header(ARCHITECTURE, plain, other)).template_knows == ("tools", "thinking")


def test_heads_may_be_told_layer_by_layer(tmp_path: Path) -> None:
    assert read(write(tmp_path / "m.gguf", kv=[4, 1])).kv_heads == (4, 1)


def test_the_built_in_model_is_read_as_the_reference_library_reads_it() -> None:
    theirs = reference.GGUFReader(ASSETS / "haiku.gguf")

    def value(key: str) -> object:
        field = theirs.get_field(key)
        return field.contents() if field else None

    ours = read(HAIKU)

    assert ours.architecture == value("general.architecture")
    assert ours.context_length == value("llama.context_length")
    assert ours.block_count == value("llama.block_count")
    assert ours.embedding_length == value("llama.embedding_length")
    assert ours.head_count == value("llama.attention.head_count")
    assert ours.chat_template == value("tokenizer.chat_template")
    tokens = value("tokenizer.ggml.tokens")
    assert isinstance(tokens, list)
    assert ours.vocab_size == len(tokens)
    assert ours.parameters == sum(int(tensor.n_elements) for tensor in theirs.tensors)
    assert ours.weights_bytes == sum(int(tensor.n_bytes) for tensor in theirs.tensors)


# The last 31 bytes of a file may be padding, without which it is whole.
@pytest.mark.parametrize("cut", [0, 3, 4, 20, 1000, HEADER_BYTES, len(HAIKU) - 32])
def test_a_truncated_file_is_refused(cut: int) -> None:
    with pytest.raises(ModelInvalid):
        read(HAIKU[:cut])


def test_a_file_that_became_shorter_is_refused() -> None:
    with pytest.raises(ModelInvalid, match="truncated"):
        gguf.read(io.BytesIO(HAIKU[:5000]), len(HAIKU))


HUGE = 2**62


@pytest.mark.parametrize(
    ("problem", "data"),
    [
        ("not a GGUF", b"PK\x03\x04 and so on"),
        ("version is 1", header(ARCHITECTURE, version=1)),
        ("version is 9", header(ARCHITECTURE, version=9)),
        ("big-endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0)),
        ("claims", header(tensors=HUGE)),
        ("claims", header(count=HUGE)),
        ("name its architecture", header()),
        ("name its architecture", header(pair("general.architecture", 8, text("../../etc")))),
        ("unknown type 13", header(pair("x", 13, b""))),
        ("a text of", header(struct.pack("<Q", HUGE))),
        ("a text of", header(pair("general.architecture", 8, struct.pack("<Q", HUGE)))),
        ("truncated", header(pair("x", 8, struct.pack("<Q", HUGE)))),
        ("truncated", header(pair("x", 9, struct.pack("<IQ", 8, HUGE)))),
        ("truncated", header(pair("x", 9, struct.pack("<IQ", 4, HUGE)))),
        ("truncated", header(pair("x", 9, struct.pack("<IQ", 8, 2) + text("a") + struct.pack("<Q", HUGE)))),
        ("elements of the type 9", header(pair("x", 9, struct.pack("<IQ", 9, 1)))),
        ("alignment is 3", header(ARCHITECTURE, pair("general.alignment", 4, struct.pack("<I", 3)))),
        ("layers", header(ARCHITECTURE, pair("llama.block_count", 10, struct.pack("<Q", 2**30)))),
        ("a length", header(ARCHITECTURE, pair("llama.context_length", 5, struct.pack("<i", -1)))),
        ("a length", header(ARCHITECTURE, pair("llama.context_length", 6, struct.pack("<f", float("inf"))))),
        ("a length", header(ARCHITECTURE, pair("llama.context_length", 6, struct.pack("<f", float("nan"))))),
        ("dimensions", header(ARCHITECTURE, tensors=1) + text("t") + struct.pack("<I", 5)),
        ("truncated", header(ARCHITECTURE, tensors=1) + text("t") + struct.pack("<IQIQ", 1, 2**63, 0, 0)),
        ("begin or end", header(ARCHITECTURE, tensors=1) + text("t") + struct.pack("<IQIQ", 1, 33, 8, 0)),
        ("begin or end", header(ARCHITECTURE, tensors=1) + text("t") + struct.pack("<IQIQ", 1, 32, 8, 1)),
    ],
)
def test_what_is_wrong_with_a_file_is_said(problem: str, data: bytes) -> None:
    with pytest.raises(ModelInvalid, match=problem):
        read(data)


def test_a_tensor_type_of_the_future_is_incompatible() -> None:
    data = header(ARCHITECTURE, tensors=1) + text("t") + struct.pack("<IQIQ", 1, 32, 99, 0)

    with pytest.raises(ModelIncompatible, match="type 99"):
        read(data)


def test_the_order_of_entries_does_not_matter() -> None:
    layers = pair("llama.block_count", 4, struct.pack("<I", 3))

    assert read(header(layers, ARCHITECTURE)) == read(header(ARCHITECTURE, layers))
    assert replace(read(header(layers, ARCHITECTURE)), block_count=0) == read(header(ARCHITECTURE))


@given(st.binary(max_size=400))
def test_no_bytes_whatsoever_do_more_than_be_refused(data: bytes) -> None:
    for whole in (data, b"GGUF" + data, header(count=3) + data, header(ARCHITECTURE, tensors=2) + data):
        try:
            read(whole)
        except (ModelInvalid, ModelIncompatible):
            continue


@given(st.integers(0, 2_000), st.binary(min_size=1, max_size=12))
def test_no_change_to_a_real_header_does_more_than_be_refused(position: int, change: bytes) -> None:
    data = HAIKU[:position] + change + HAIKU[position + len(change) :]
    try:
        read(data)
    except (ModelInvalid, ModelIncompatible):
        return


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def layers(architecture: str, *more: bytes) -> gguf.Metadata:
    """Read a model of six layers with a sliding window of 512 tokens."""
    return read(
        header(
            pair("general.architecture", 8, text(architecture)),
            pair(f"{architecture}.block_count", 4, u32(6)),
            pair(f"{architecture}.attention.sliding_window", 4, u32(512)),
            *more,
        )
    )


def test_layers_with_a_sliding_window_are_told_by_the_file_or_by_its_architecture() -> None:
    flags = struct.pack("<IQ", 7, 6) + bytes([1, 0, 1, 1, 0, 0])
    told = layers("gemma3n", pair("gemma3n.attention.sliding_window_pattern", 9, flags))
    every = layers("cohere2", pair("cohere2.attention.sliding_window_pattern", 4, u32(3)))

    assert told.sliding == (True, False, True, True, False, False)
    assert every.sliding == (True, True, False) * 2
    assert layers("gemma3").sliding == (True,) * 5 + (False,)
    assert layers("llama").sliding == (False,) * 6
    assert (told.sliding_window, read(header(ARCHITECTURE)).sliding) == (512, ())


def test_of_a_mixture_of_experts_those_that_work_at_once_count() -> None:
    found = layers(
        "qwen3moe",
        pair("qwen3moe.feed_forward_length", 4, u32(1000)),
        pair("qwen3moe.expert_feed_forward_length", 4, u32(300)),
        pair("qwen3moe.expert_used_count", 4, u32(8)),
    )

    assert found.feed_forward_length == 2400
    assert layers("llama", pair("llama.feed_forward_length", 4, u32(7))).feed_forward_length == 7
