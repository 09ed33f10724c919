"""Which tokens are parts of characters, and which of them a text was made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.worker.backend.pieces import BYTE, NORMAL, Pieces, byte_names, find_pieces

NAMES = byte_names()
HALVES = ["".join(NAMES[byte] for byte in half) for half in (b"\xf0\x9f", b"\x98\x80", b" \xf0\x9f", b"\x98\x80!")]
BYTE_LEVEL = [*NAMES, "Ġba", *HALVES]
FIRST, END, SPACED, MARKED = range(257, 261)


def test_a_byte_has_one_name_and_a_printable_byte_its_own() -> None:
    assert len(set(NAMES)) == 256
    assert NAMES[ord("a")] == "a"
    assert NAMES[ord(" ")] == "Ġ"


@pytest.mark.parametrize(
    ("text", "count", "last", "found"),
    [
        ("😀", 1, END, [FIRST]),
        ("😀", 2, END, [0xF0, 0x9F]),
        ("😀", 3, 0x80, [0xF0, 0x9F, 0x98]),
        (" 😀", 1, END, [SPACED]),
        ("😀!", 1, MARKED, [FIRST]),
        ("é", 1, 0xA9, [0xC3]),
    ],
)
def test_the_tokens_of_a_character_follow_from_its_bytes(text: str, count: int, last: int, found: list[int]) -> None:
    assert find_pieces("gpt2", BYTE_LEVEL, [NORMAL] * len(BYTE_LEVEL)).unsaid(text, count, last) == found


@pytest.mark.parametrize(
    ("text", "count", "last"),
    [("\ufffd ba", 1, 256), ("😀", 4, END), ("😀", 1, 0x98), ("🚀", 1, END), ("", 1, END)],
)
def test_what_cannot_be_is_not_guessed(text: str, count: int, last: int) -> None:
    assert find_pieces("gpt2", BYTE_LEVEL, []).unsaid(text, count, last) is None


def test_a_vocabulary_with_byte_tokens_is_read_by_them() -> None:
    names = ["é", *(f"<0x{byte:02X}>" for byte in range(256)), "<0xZZ>"]
    types = [NORMAL, *[BYTE] * 257]

    pieces = find_pieces("llama", names, types)

    assert pieces.unsaid("😀", 3, 1 + 0x80) == [1 + 0xF0, 1 + 0x9F, 1 + 0x98]
    assert find_pieces("gpt2", names, types).unsaid("é", 1, 1 + 0xA9) == [1 + 0xC3]


def test_a_vocabulary_of_an_unknown_form_has_no_pieces() -> None:
    assert find_pieces("rwkv", ["a", "b"], []).unsaid("é", 1, 1) is None


@given(
    st.text(alphabet="é漢😀🚀", min_size=1, max_size=2),
    st.lists(st.binary(min_size=1, max_size=3), max_size=20),
    st.data(),
)
def test_what_is_found_is_the_text_in_as_many_tokens(text: str, tokens: list[bytes], data: st.DataObject) -> None:
    whole = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), min_size=1)))
    written = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    ids = {piece: number for number, piece in enumerate(dict.fromkeys([*tokens, *written]))}

    found = Pieces(ids).unsaid(text, len(written) - 1, ids[written[-1]])

    by_id = {number: piece for piece, number in ids.items()}
    assert found is not None
    assert len(found) == len(written) - 1
    assert b"".join(by_id[token] for token in found) + written[-1] == whole
