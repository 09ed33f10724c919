"""The library ctransformers with models of every architecture that is read, in the process of the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ctransformers", reason="the extra ctransformers is not installed")

from llorch.errors import ModelIncompatible
from roles.worker.backend.ctransformers_file import OldFile, look
from roles.worker.backend.ctransformers_model import Model
from roles.worker.backend.ctransformers_tokens import Words
from tests.support import models, old_models
from tests.support.models import Q4_0
from tests.support.old_models import CTX, F16, F32

OTHERS = ("dolly-v2", "gpt2", "gptj", "gptneox", "mpt", "replit", "starcoder")


def loaded(path: Path, ctx: int = CTX) -> Model:
    return Model(path, look(path), ctx=ctx, threads=1)


@pytest.mark.parametrize("kind", [F32, F16, Q4_0], ids=["F32", "F16", "Q4_0"])
@pytest.mark.parametrize("architecture", OTHERS)
def test_every_architecture_is_known_loaded_and_computes(tmp_path: Path, architecture: str, kind: int) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(old_models.other(architecture, kind=kind))  # type: ignore[arg-type]  # a member of the enumeration

    model = loaded(path)
    tokens = model.tokens(b"bake kilo dumi lani")
    at_once = model.read(tokens, 0)
    in_parts = [model.read([token], place) for place, token in enumerate(tokens)][-1]

    assert model.ctx == CTX
    assert b"".join(model.bytes[token] for token in tokens).decode().split() == ["bake", "kilo", "dumi", "lani"]
    assert np.isfinite(at_once).all()
    assert len(at_once) == model.vocab_size
    assert at_once.std() > 0.02
    np.testing.assert_allclose(at_once, in_parts, atol=0.05)
    assert 0 in model.eos


@pytest.mark.parametrize("architecture", ["gpt2", "gptneox"])
def test_every_byte_of_a_text_comes_back_from_its_tokens(tmp_path: Path, architecture: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(old_models.other(architecture, words=[b"<|user|>"]))
    model = loaded(path)
    words = Words(model.bytes, {}, unsaid=True, begin=None, tokens=model.tokens)

    found = words.prompt("bake 😀 Ünïcödé\n<|user|>", "<|user|>", begin=True)

    assert b"".join(words.bytes_of(token) for token in found).decode() == "bake 😀 Ünïcödé\n<|user|>"
    assert model.bytes.index(b"<|user|>") in found


def test_a_long_word_and_a_long_text_do_not_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(old_models.llama())

    tokens = loaded(path).tokens("é😀".encode() * 20_000)

    assert len(tokens) >= 40_000


def test_a_llama_in_gguf_is_the_same_model_as_in_the_old_form(tmp_path: Path) -> None:
    old, new = tmp_path / "old.bin", models.make(tmp_path / "new.gguf", sentencepiece=True)
    old.write_bytes(old_models.llama())

    one, other = loaded(old, 256), loaded(new, 256)
    scores = [model.read([model.bos, *model.tokens(b"bake kilo")[-1:]], 0) for model in (one, other)]

    # Two tokens have other places in the old form, and it has no place for how exact its norms are.
    changed = np.isin(np.arange(one.vocab_size), [1, 2, 256, 257])
    np.testing.assert_allclose(scores[0][~changed], scores[1][~changed], atol=1e-3)
    assert (one.vocab_size, one.bos, one.eos) == (other.vocab_size, 1, frozenset({2}))
    assert (other.bos, other.eos) == (256, frozenset({257}))


def test_what_the_library_refuses_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(old_models.llama().replace(b"layers.1.ffn_norm", b"layers.1.ffn_horm"))

    with pytest.raises(ModelIncompatible, match=r"cannot load model\.bin.*llamacpp") as refused:
        loaded(path)
    assert "\n" not in refused.value.message


def test_a_context_is_never_larger_than_the_files_own(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(old_models.other("gptneox"))

    model = Model(path, OldFile("gptneox", CTX, "F32"), ctx=4 * CTX, threads=1)

    assert model.ctx == CTX
    assert loaded(path, ctx=16).ctx == 16
