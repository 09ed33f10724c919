"""Which model files go to the library ctransformers, and what it is told of them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from llorch.errors import ModelIncompatible, ModelInvalid, ModelNotFound
from roles.worker.backend.ctransformers_file import OldFile, look
from tests.support import models, old_models
from tests.support.models import Q4_0

HAIKU = Path(__file__).parents[3] / "llorch" / "assets" / "haiku.gguf"


def test_an_old_llama_has_a_context_of_its_time_and_no_template(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(old_models.llama(kind=old_models.Q8_0))

    assert look(path) == OldFile(
        kind="llama",
        context_length=2048,
        quantization="Q8_0",
        names={"bos_token": "<s>", "eos_token": "</s>"},
        specials={"<s>": 1, "</s>": 2},
        unsaid=True,
        begins=True,
    )


def test_a_template_beside_the_file_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "model.q4.bin"
    path.write_bytes(old_models.other("gptneox"))
    (tmp_path / "model.q4.jinja").write_text("{{ messages }}")
    (tmp_path / "model.jinja").write_text("another's")

    found = look(path)

    assert (found.kind, found.template, found.begins) == ("gptneox", "{{ messages }}", False)


def test_a_gguf_file_is_read_where_its_vocabulary_is_sentencepieces(tmp_path: Path) -> None:
    found = look(models.make(tmp_path / "model.gguf", quant=Q4_0, sentencepiece=True))

    assert (found.kind, found.context_length, found.quantization) == ("gguf", models.TINY.ctx, "Q4_0")
    assert found.template == models.CHAT_TEMPLATE
    assert found.names == {"bos_token": "<s>", "eos_token": "</s>"}
    assert found.specials == {"<s>": 256, "</s>": 257}
    assert not found.unsaid


def test_newer_files_are_refused_with_the_engine_that_reads_them(tmp_path: Path) -> None:
    zebra = models.make(tmp_path / "zebra.gguf", architecture="zebra")
    newer = tmp_path / "newer.gguf"
    raw = models.make(newer, sentencepiece=True).read_bytes()
    at = raw.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 16
    newer.write_bytes(raw[:at] + (30).to_bytes(4, "little") + raw[at + 4 :])

    for path, why in ((HAIKU, "SentencePiece"), (zebra, "zebra"), (newer, "type 30")):
        with pytest.raises(ModelIncompatible, match=f"{why}.*; take the engine llamacpp") as refused:
            look(path)
        assert "\n" not in refused.value.message


def test_grouped_keys_are_known_by_the_files_name_alone(tmp_path: Path) -> None:
    data = old_models.llama(models.Shape(n_kv_head=1))
    named, other = tmp_path / "llama-2-70b.bin", tmp_path / "llama.bin"
    for path in (named, other):
        path.write_bytes(data)

    assert look(named).kind == "llama"
    with pytest.raises(ModelIncompatible, match="rename it"):
        look(other)


def test_damaged_and_missing_files_are_refused_before_the_library_sees_them(tmp_path: Path) -> None:
    whole = models.make(tmp_path / "whole.gguf", sentencepiece=True).read_bytes()
    for name, data in (("cut", whole[: len(whole) // 2]), ("short", whole[:-1000]), ("foreign", b"no model" * 100)):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ModelInvalid):
            look(path)
    for path in (tmp_path / "missing.bin", tmp_path):
        with pytest.raises(ModelNotFound):
            look(path)


@pytest.mark.parametrize("key", ["general.alignment", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"])
@pytest.mark.parametrize("number", ["inf", "nan", "-1"])
def test_a_number_that_none_can_be_is_refused(tmp_path: Path, key: str, number: str) -> None:
    raw = models.make(tmp_path / "model.gguf", sentencepiece=True).read_bytes()
    name = len(key).to_bytes(8, "little") + key.encode()
    value = name + (6).to_bytes(4, "little") + struct.pack("<f", float(number))
    at = raw.find(name)
    if at >= 0:
        raw = raw[:at] + value + raw[at + len(name) + 8 :]
    else:
        raw = raw[:16] + (int.from_bytes(raw[16:24], "little") + 1).to_bytes(8, "little") + value + raw[24:]
    (tmp_path / "model.gguf").write_bytes(raw)

    with pytest.raises(ModelInvalid):
        look(tmp_path / "model.gguf")
