"""The library ctransformers with models of every architecture that is read, in the process of the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ctransformers", reason="the extra ctransformers is not installed")

from llorch.errors import InvalidRequest, ModelIncompatible
from roles.worker.backend.ctransformers_file import OldFile, look
from roles.worker.backend.ctransformers_model import Model
from roles.worker.backend.ctransformers_tokens import MAX_TEXT_BYTES, Words
from tests.support import models, old_models
from tests.support.models import Q4_0
from tests.support.old_models import CTX, F16, F32, MARKS

WORDS = [b"aa", b"aaa a", b"!!!!", b"  ", b"\n\n", "中中".encode(), "e \u2581f".encode(), b" '", b"ba kilo"]
"""Some reach over the end of a word, which only replit's tokeniser takes."""
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


def mixed(*, parts: int, seed: int) -> bytes:
    """Return words, long runs, spaces and marks in any order."""
    drawn = np.random.default_rng(seed)
    marks = [mark.decode() for mark in (*MARKS["dolly-v2"], *MARKS["starcoder"])]
    bricks = ["a", "aaa ", "bake", " kilo", "!", "'s", "'", " ", "  ", "\n", "\t", "7", "中", "é", "e f", "bb ", *marks]
    return "".join(
        bricks[drawn.integers(len(bricks))] * int(drawn.choice([1, 1, 1, 2, 40])) for _ in range(parts)
    ).encode()


@pytest.mark.parametrize("architecture", OTHERS)
def test_the_pieces_of_a_text_have_the_tokens_of_the_whole(tmp_path: Path, architecture: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(old_models.other(architecture, words=WORDS))
    model = loaded(path)
    parts = 12 if architecture == "replit" else 60  # whose tokeniser takes 60 of them for seconds
    texts = [mixed(parts=parts, seed=seed) for seed in range(12)]

    found = [model.tokens(text) for text in texts]

    assert found == [model.whole(text) for text in texts]
    assert sum(map(len, texts)) > 4000
    assert len({token for tokens in found for token in tokens} - set(range(len(old_models.WORDS)))) >= 5


@pytest.mark.parametrize("architecture", ["gpt2", "mpt", "replit"])
@pytest.mark.parametrize("letter", ["b", "中", "!", "bake "])
def test_a_long_word_and_a_long_text_are_read_to_the_end(tmp_path: Path, architecture: str, letter: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(old_models.other(architecture))
    model = loaded(path)
    text = letter.encode() * (60_000 // len(letter.encode()))

    tokens = model.tokens(text)

    assert b"".join(model.bytes[token] for token in tokens) == text


@pytest.mark.parametrize("letter", ["a", "中", "!"])
def test_the_longest_word_that_a_request_can_have_is_refused_with_one_line(tmp_path: Path, letter: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(old_models.other("gpt2"))

    with pytest.raises(InvalidRequest, match="words of more than 64 bytes") as refused:
        loaded(path).tokens((letter * MAX_TEXT_BYTES).encode()[:MAX_TEXT_BYTES])

    assert "\n" not in refused.value.message


def test_what_replit_cannot_be_given_in_pieces_is_refused_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(old_models.other("replit", words=[b"aa"]))
    model = loaded(path)

    for text, why in ((b"a" * 100_000, "hang together"), (b"bake kilo " * 20_000, "200000 bytes")):
        with pytest.raises(InvalidRequest, match=why) as refused:
            model.tokens(text)
        assert "\n" not in refused.value.message
    assert len(model.tokens(b"a" * 1024)) == 512


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
