"""How long the texts of a vocabulary's tokens are. Pure, over the bytes of a GGUF header."""

from __future__ import annotations

import re
import struct

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_NORMAL = 1
_ONE_BYTE = re.compile(rb"^<0x[0-9A-Fa-f]{2}>$")
_SPACE = "▁".encode()
_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_BYTE_CHARACTERS = frozenset(map(chr, [*_PRINTED, *range(256, 256 + 256 - len(_PRINTED))]))
"""The 256 characters that byte-level BPE (`bytes_to_unicode` of https://github.com/openai/gpt-2) writes bytes as."""


def longest_token(data: bytearray, start: int, count: int, *, byte_level: bool, types: int | None) -> int:
    """Return the length in bytes of the longest text that a token stands for; never less than the truth.

    What is stored is never shorter than what it stands for, so only a token whose stored form is longer than the
    longest text so far is looked at.

    Args:
        data: The header.
        start: Where the tokens lie: for each its length in 8 bytes, then its stored form.
        count: How many there are.
        byte_level: Stored by GPT-2's way of writing bytes as characters, unless a token's type says otherwise.
        types: Where the tokens' types lie, 4 bytes each; None when they are not known.
    """
    position, longest = start, 0
    length_at = _U64.unpack_from
    for index in range(count):
        length = length_at(data, position)[0]
        position += 8
        if length > longest:
            normal = types is None or _U32.unpack_from(data, types + 4 * index)[0] == _NORMAL
            longest = max(longest, text_bytes(bytes(data[position : position + length]), mapped=byte_level and normal))
        position += length
    return longest


def text_bytes(stored: bytes, *, mapped: bool) -> int:
    """Return the length in bytes of the text that a token stands for.

    Args:
        stored: The token as the file has it.
        mapped: Each character stands for one byte.
    """
    if mapped:
        text = stored.decode("utf-8", "replace")
        return len(text) if _BYTE_CHARACTERS.issuperset(text) else len(stored)
    if _ONE_BYTE.match(stored):
        return 1
    return len(stored.replace(_SPACE, b" "))
