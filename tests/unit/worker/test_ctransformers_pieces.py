"""Pieces of texts for tokenisers that cannot take them whole; tokenisers of a few lines that can stand beside."""

from __future__ import annotations

import pytest

from llorch.errors import InvalidRequest
from roles.worker.backend.ctransformers_pieces import (
    GROUP_BYTES,
    LONG_WORDS_BYTES,
    LONGEST_PIECE_BYTES,
    REPLIT_TEXT_BYTES,
    SPACE,
    BestOfAll,
    LongestFirst,
    in_pieces,
)

SAID = [b"<unk>", b"a", b"b", b" ", b" b", b"aaa", b"aab", b"!", b"!!!!!", b"\n", b"## end", b"#", b"e", b"n", b"d"]
BAD = 0xFF
"""No token stands for it."""


class Longest:
    """Takes the longest token first, of any text; remembers the texts."""

    def __init__(self, said: list[bytes]) -> None:
        self._said = said
        self.texts: list[bytes] = []

    def __call__(self, text: bytes) -> list[int]:
        self.texts.append(text)
        found, place = [], 0
        while place < len(text):
            fit = [token for token, data in enumerate(self._said) if data and text.startswith(data, place)]
            if not fit:
                place += 1
                continue
            found.append(max(fit, key=lambda token: len(self._said[token])))
            place += len(self._said[found[-1]])
        return found


@pytest.mark.parametrize(
    "word", [b"a" * 1000, b"aab" * 400, b" " + b"a" * 999, b"!" * 1003, b"\n" * 700, (b"!!" + bytes([BAD])) * 300]
)
def test_a_long_word_has_the_tokens_of_the_whole_and_none_of_its_pieces_is_long(word: bytes) -> None:
    library = Longest(SAID)

    found = LongestFirst(SAID, library)(word)

    assert max(map(len, library.texts)) <= 64
    assert found == Longest(SAID)(word)


def test_bytes_that_no_token_stands_for_are_passed_over_however_many_they_are() -> None:
    assert LongestFirst(SAID, Longest(SAID))(bytes([BAD]) * 500 + b"a") == [1]


def test_words_are_given_together_and_stay_whole() -> None:
    library = Longest(SAID)

    LongestFirst(SAID, library)(b"ab b\n" * 1000)

    assert b"".join(library.texts) == b"ab b\n" * 1000
    assert len(library.texts) <= 6
    assert max(map(len, library.texts)) <= GROUP_BYTES
    assert not any(text.startswith(b"b\n") for text in library.texts)


def test_the_last_of_many_spaces_is_not_with_the_others_at_the_end_of_a_group() -> None:
    library = Longest(SAID)

    LongestFirst(SAID, library)(b"a\n\n" + b"b" * 100)

    assert library.texts[:2] == [b"a\n", b"\n"]


def test_a_mark_is_given_alone() -> None:
    library = Longest(SAID)

    found = LongestFirst(SAID, library, marks=[b"## end"])(b"a## endb")

    assert library.texts == [b"a", b"## end", b"b"]
    assert found == [1, 10, 2]


def test_a_long_word_is_refused_only_where_a_token_may_be_as_long() -> None:
    said = [*SAID, b"a" * (LONGEST_PIECE_BYTES + 1)]
    tokens = LongestFirst(said, Longest(said))

    with pytest.raises(InvalidRequest, match=f"a word of {LONGEST_PIECE_BYTES + 1} bytes") as refused:
        tokens(b"a" * (LONGEST_PIECE_BYTES + 1))

    assert "\n" not in refused.value.message
    assert len(tokens(b"b" * LONGEST_PIECE_BYTES)) == LONGEST_PIECE_BYTES


def test_long_words_are_refused_only_where_there_is_too_much_of_them() -> None:
    tokens = LongestFirst(SAID, Longest(SAID))
    half = b"b" * (LONG_WORDS_BYTES // 2)

    assert len(tokens(half + b"\n" + half + b"\n")) == LONG_WORDS_BYTES + 2
    with pytest.raises(InvalidRequest, match=f"{LONG_WORDS_BYTES} bytes of them at most") as refused:
        tokens(half + b"\n" + half + b"b")
    assert "\n" not in refused.value.message
    assert len(tokens(b"b b\n" * (LONG_WORDS_BYTES // 2))) == 3 * LONG_WORDS_BYTES // 2


def test_a_text_for_replit_is_never_cut_within_a_token_or_a_letter() -> None:
    library = Longest([*SAID, SPACE + b"b"])
    text = "ab aab b éb".encode() * 200

    BestOfAll([*SAID, "é".encode()], library)(text)

    assert b"".join(library.texts) == text.replace(b" ", SPACE)
    assert max(map(len, library.texts)) < 80
    for before, behind in zip(library.texts, library.texts[1:], strict=False):
        assert not (before.endswith(SPACE) and behind.startswith(b"b"))
        assert not (before.endswith(b"a") and behind.startswith((b"ab", b"b")) and before[-2:] == b"aa")
        behind.decode()


def test_a_text_for_replit_that_hangs_together_is_refused_when_it_is_long() -> None:
    said = [*SAID, b"  "]
    tokens = BestOfAll(said, lambda text: [len(text)])

    assert tokens(b"a" * LONGEST_PIECE_BYTES) == [LONGEST_PIECE_BYTES]
    for text, why in (
        (b" " * LONGEST_PIECE_BYTES, "hang together"),
        (b"b" * (REPLIT_TEXT_BYTES + 1), f"{REPLIT_TEXT_BYTES} at most"),
    ):
        with pytest.raises(InvalidRequest, match=why) as refused:
            tokens(text)
        assert "\n" not in refused.value.message


def test_each_architecture_has_its_own_pieces() -> None:
    said = [*SAID, b"<fim-prefix>"]
    for kind, texts in (
        ("llama", [b"a<fim-prefix>### End"]),
        ("gpt2", [b"a<fim-prefix>### End"]),
        ("starcoder", [b"a", b"<fim-prefix>", b"### End"]),
        ("dolly-v2", [b"a<fim-prefix>", b"### End"]),
        ("replit", [b"a<fim-prefix>###" + SPACE + b"End"]),
    ):
        library = Longest(said)
        in_pieces(kind, said, library)(b"a<fim-prefix>### End")
        assert [text for text in library.texts if text] == texts
