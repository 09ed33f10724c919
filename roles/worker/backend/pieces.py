"""Tokens that are parts of characters: which ones a model must have chosen to write a text. Pure.

llama.cpp says nothing of a token that leaves a character unfinished; it tells the text once the character is whole,
with the id of the last token alone and the count of all. The ids between follow from the bytes of that text, because
a token without an announcement is never whole UTF-8 by itself, and a vocabulary has few of those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

BYTE_LEVEL = "gpt2"
"""GGUF's name for byte-level BPE, whose tokens are written with one stand-in character a byte."""
NORMAL, BYTE = 1, 6
"""GGUF's numbers for types of tokens."""
_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")


def byte_names() -> list[str]:
    """Return the stand-in of each byte. Source: GPT-2's encoder.py, `bytes_to_unicode`."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(256)]


class Pieces:
    """The tokens of one vocabulary that are not whole characters.

    Args:
        by_bytes: The ids by what they stand for; nothing in it is UTF-8 by itself.
    """

    def __init__(self, by_bytes: Mapping[bytes, int]) -> None:
        self._by_bytes = by_bytes
        self._by_id = {token: data for data, token in by_bytes.items()}
        self._longest = max(map(len, by_bytes), default=0)

    def unsaid(self, text: str, count: int, last: int) -> list[int] | None:
        """Return the *count* tokens before the token *last*, which all together are *text*.

        Where the same bytes can be made of that many tokens in several ways, which is known of no tokeniser's own
        output, the way that takes the longest tokens first is returned. None when there is no way at all: the text
        holds bytes that are no character, or this kind of vocabulary is not known here.
        """
        data, end = text.encode(), self._by_id.get(last)
        if end is None or not data.endswith(end):
            return None
        return next(self._ways(data[: len(data) - len(end)], count), None)

    def _ways(self, data: bytes, count: int) -> Iterator[list[int]]:
        if not count:
            if not data:
                yield []
            return
        for length in range(min(len(data) - count + 1, self._longest), 0, -1):
            token = self._by_bytes.get(data[:length])
            if token is not None:
                for rest in self._ways(data[length:], count - 1):
                    yield [token, *rest]


def find_pieces(model: str, names: Sequence[str], types: Sequence[int]) -> Pieces:
    """Pick the tokens that are not whole characters out of a vocabulary.

    Args:
        model: What GGUF calls the kind of vocabulary.
        names: The tokens as GGUF writes them, by id.
        types: Their types; shorter or empty where the file has none.
    """
    found: dict[bytes, int] = {}
    as_bytes = {ord(name): byte for byte, name in enumerate(byte_names())}
    by_bytes = model == BYTE_LEVEL and BYTE not in types
    for token, name in enumerate(names):
        kind = types[token] if token < len(types) else NORMAL
        if kind == BYTE and (byte := _BYTE_TOKEN.fullmatch(name)):
            data = bytes([int(byte[1], 16)])
        elif by_bytes and kind == NORMAL and not name.isascii():
            data = bytes(as_bytes[ord(c)] for c in name) if all(ord(c) in as_bytes for c in name) else b""
        else:
            continue
        if not _whole(data):
            found.setdefault(data, token)
    return Pieces(found)


def _whole(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
