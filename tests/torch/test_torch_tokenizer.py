"""Tokens and their text, as the torch engine reads them from tokenizer.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("tokenizers", reason="the extra torch is not installed")

from llorch.errors import InvalidRequest, ModelIncompatible, ModelInvalid, ModelNotFound
from roles.worker.backend.engine_answer import Writing
from roles.worker.backend.torch_tokenizer import Words
from tests.support import checkpoints


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoints.make(tmp_path)


def sentencepiece(folder: Path) -> Path:
    """Make the tokeniser one of llama-2's form."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "ab", "▁ab"]
    found = json.loads((folder / "tokenizer.json").read_text())
    found["pre_tokenizer"] = None
    found["post_processor"] = None
    found["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    }
    found["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    found["added_tokens"] = [
        {**found["added_tokens"][0], "id": names.index(name), "content": name} for name in names[:3]
    ]
    found["model"] |= {
        "vocab": {name: number for number, name in enumerate(names)},
        "merges": ["▁ a", "a b", "▁a b"],
        "byte_fallback": True,
        "unk_token": "<unk>",
    }
    (folder / "tokenizer.json").write_text(json.dumps(found))
    return folder


def text_of(words: Words, tokens: list[int]) -> str:
    return b"".join(words.bytes_of(token) for token in tokens).decode()


def changed(folder: Path, **parts: object) -> Path:
    """Give the tokeniser other parts."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))
    return folder


@pytest.mark.parametrize("text", ["bake kilo", " two  spaces ", "😀🚀 Ünïcödé\n\ttabs"])
def test_a_text_is_what_its_tokens_stand_for(folder: Path, text: str) -> None:
    words = Words(folder, 2000)

    assert text_of(words, words.prompt(text, "", begin=True)) == text
    assert text_of(words, words.prompt("", text, begin=False)) == text


def test_what_looks_like_a_special_token_is_one_in_a_prompt_and_text_in_what_a_model_wrote(folder: Path) -> None:
    words = Words(folder, 2000)

    tokens = words.prompt("bake</s>", "</s>", begin=False)

    assert sum(token in words.special for token in tokens) == 1
    assert text_of(words, tokens) == "bake</s>"


def test_a_continuation_in_sentencepieces_form_gets_no_space_in_front(folder: Path) -> None:
    words = Words(sentencepiece(folder), 2000)

    tokens = words.prompt("ab", "ab é", begin=False)

    assert text_of(words, tokens) == " abab é"


def test_a_character_is_told_once_it_is_whole(folder: Path) -> None:
    words = Words(sentencepiece(folder), 2000)
    writing = Writing(words)

    told = [writing.add(words.tokens("é", begin=False)[-2]), writing.add(words.tokens("é", begin=False)[-1])]
    unfinished = Writing(words)
    unfinished.add(words.tokens("é", begin=False)[-2])

    assert told == [None, "é"]
    assert unfinished.rest() == ""


def test_a_model_without_a_tokeniser_or_with_a_damaged_one_is_refused(folder: Path) -> None:
    path = folder / "tokenizer.json"
    found = json.loads(path.read_text())

    for content in ("{", json.dumps({**found, "model": {"type": "BPE", "vocab": 5}})):
        path.write_text(content)
        with pytest.raises(ModelInvalid, match=r"tokenizer\.json"):
            Words(folder, 2000)
    path.write_text(json.dumps({**found, "decoder": None}))
    with pytest.raises(ModelIncompatible, match="become text"):
        Words(folder, 2000)
    path.unlink()
    with pytest.raises(ModelNotFound, match=r"tokenizer\.json"):
        Words(folder, 2000)


def test_a_token_that_was_added_to_the_tokeniser_alone_is_the_requests_fault(folder: Path) -> None:
    words = Words(folder, 257)

    with pytest.raises(InvalidRequest, match="no place"):
        words.prompt("bake", "", begin=True)


def test_a_prompt_without_a_token_is_the_requests_fault(folder: Path) -> None:
    words = Words(folder, 2000)

    assert len(words.prompt("", "", begin=True)) == 1
    with pytest.raises(InvalidRequest, match="no tokens"):
        words.prompt("", "", begin=False)
    with pytest.raises(InvalidRequest, match="no tokens"):
        Words(changed(folder, normalizer={"type": "Strip", "strip_left": True, "strip_right": True}), 2000).prompt(
            " \n", "", begin=False
        )


GIVES_UP = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
NO_UNKNOWN = {"type": "WordLevel", "vocab": {"bake": 0}, "unk_token": "<unk>"}


def test_a_text_that_the_library_cannot_encode_is_the_requests_fault_in_one_line(folder: Path) -> None:
    panics = Words(changed(folder, pre_tokenizer=GIVES_UP), 2000)
    raises = Words(changed(folder, model=NO_UNKNOWN, pre_tokenizer={"type": "Whitespace"}), 2000)

    for words, text in ((panics, "a" * 40 + "b"), (raises, "kilo"), (raises, "\ud800")):
        for prompt, behind in ((text, ""), ("bake", text)):
            with pytest.raises(InvalidRequest, match="tokeniser does not take") as refused:
                words.prompt(prompt, behind, begin=False)
            assert "\n" not in refused.value.message
