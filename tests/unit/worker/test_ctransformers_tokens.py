"""Special tokens in texts for a library that knows none."""

from __future__ import annotations

import pytest

from llorch.errors import InvalidRequest
from roles.worker.backend.ctransformers_tokens import MAX_TEXT_BYTES, Words

SAID = [*(bytes([byte]) for byte in range(256)), b"", b"", b"<|user|>"]
BOS, EOS, USER = 256, 257, 258
SPECIALS = {"<s>": BOS, "</s>": EOS}


def words(*, unsaid: bool = True, begin: int | None = BOS) -> Words:
    """Return those of a vocabulary of bytes."""
    return Words(SAID, SPECIALS, unsaid=unsaid, begin=begin, tokens=list)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("ab", [BOS, *b"ab"]),
        ("<s>ab</s>", [BOS, *b"ab", EOS]),
        ("</s>ab", [BOS, EOS, *b"ab"]),
        ("<|user|>é", [BOS, USER, *"é".encode()]),
        ("", [BOS]),
    ],
)
def test_special_tokens_are_found_and_the_first_is_never_there_twice(text: str, tokens: list[int]) -> None:
    assert words().prompt(text, "", begin=True) == tokens
    assert words().prompt(text, "", begin=False) == tokens


def test_what_a_model_wrote_has_no_special_token() -> None:
    assert words().prompt("a", "</s><|user|>", begin=True) == [BOS, *b"a</s><|user|>"]


def test_tokens_that_look_special_are_so_only_where_the_file_does_not_say() -> None:
    assert words(unsaid=False).prompt("<|user|>", "", begin=True) == [BOS, *b"<|user|>"]
    assert words(unsaid=False).bytes_of(USER) == b"<|user|>"
    assert words().bytes_of(USER) == b""


def test_a_vocabulary_without_a_first_token_begins_with_the_text() -> None:
    assert words(begin=None).prompt("ab", "", begin=True) == list(b"ab")
    with pytest.raises(InvalidRequest, match="no tokens"):
        words(begin=None).prompt("", "", begin=True)


def test_what_the_library_cannot_read_is_refused_with_one_line() -> None:
    for text, why in (("a\0b", "NUL"), ("a" * (MAX_TEXT_BYTES + 1), str(MAX_TEXT_BYTES))):
        with pytest.raises(InvalidRequest, match=why) as refused:
            words().prompt(text, "", begin=True)
        assert "\n" not in refused.value.message


def test_special_tokens_are_told_by_their_names() -> None:
    found = words()

    assert [found.told(token) for token in (BOS, USER, 65, 0xC3)] == [
        ("<s>", []),
        ("<|user|>", []),
        ("A", [65]),
        ("", [0xC3]),
    ]
