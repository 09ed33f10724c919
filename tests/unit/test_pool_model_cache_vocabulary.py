"""How long the texts of tokens are."""

from __future__ import annotations

import struct

import pytest

from roles.pool.model_cache.vocabulary import longest_token, text_bytes


def stored(*tokens: str) -> bytearray:
    encoded = [token.encode() for token in tokens]
    return bytearray(b"".join(struct.pack("<Q", len(token)) + token for token in encoded))


@pytest.mark.parametrize(
    ("token", "mapped", "length"),
    [
        ("abc", True, 3),
        ("Ġabc", True, 4),
        ("Ã©", True, 2),
        ("ĠĠĠĠ", True, 4),
        ("日本", True, 6),
        ("▁abc", False, 4),
        ("▁▁", False, 2),
        ("<0xAB>", False, 1),
        ("<0xABC>", False, 7),
        ("日本", False, 6),
        ("", False, 0),
    ],
)
def test_a_token_is_as_long_as_the_text_it_stands_for(token: str, mapped: bool, length: int) -> None:
    assert text_bytes(token.encode(), mapped=mapped) == length


def test_the_longest_token_is_found_wherever_it_is() -> None:
    data = stored("a", "ĠĠĠ", "abcde", "Ġb")

    assert longest_token(data, 0, 4, byte_level=True, types=None) == 5
    assert longest_token(data, 0, 2, byte_level=True, types=None) == 3
    assert longest_token(data, 0, 2, byte_level=False, types=None) == 6


def test_a_token_that_is_no_normal_one_is_not_written_in_bytes() -> None:
    data = stored("éé", "éé")
    types = len(data)
    data += struct.pack("<2I", 1, 4)

    assert longest_token(data, 0, 1, byte_level=True, types=types) == 2
    assert longest_token(data, 0, 2, byte_level=True, types=types) == 4
