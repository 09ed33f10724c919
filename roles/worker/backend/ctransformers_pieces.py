"""Cuts texts into pieces for the tokenisers of the library ctransformers, which crash on long words or take minutes.

Strategy: only where the tokens stay those of the whole. The library's tokenisers of the gpt2 family take words one by
one, and of a word the longest token first, so that a token is known once as many bytes are as the longest has. That of
replit seeks the best tokens of the whole: they are those of the pieces where no token reaches over the cut. Loads
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from llorch.errors import InvalidRequest

Tokens = Callable[[bytes], list[int]]
"""Returns the tokens of a text."""

GROUP_BYTES = 1024
"""Words go to the library in groups of about so many bytes: it copies the whole rest of a text for each of them."""
FEW_BYTES = 64
"""A piece has at least so many where it can."""
LONGEST_PIECE_BYTES = 1024
"""The library takes 0.1 s for a word of so many bytes, and eight times that for twice as many."""
LONG_WORDS_BYTES = 64 << 10
"""What words that are cut may have together: they take seconds, and no context holds much more of them."""
REPLIT_TEXT_BYTES = 128 << 10
"""The longest text for replit, whose pieces may all be that long; its context holds less."""
SPACE = "\u2581".encode()
"""What replit's vocabulary has for a space."""
_MARKS: Mapping[str, Sequence[bytes]] = {
    "dolly-v2": (b"### End", b"### Instruction:", b"### Response:"),
    "starcoder": (
        *(b"<|system|>", b"<|user|>", b"<|assistant|>", b"<|end|>", b"<|end_of_turn|>"),
        *(b"<fim-prefix>", b"<fim-middle>", b"<fim-suffix>", b"<fim-pad>"),
    ),
}
"""What the library takes for one word: dolly's always, starcoder's if there are such tokens."""
_WORD = re.compile(rb"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
"""The library's own rule, for which it goes one call deeper with each byte of a word."""


def in_pieces(kind: str, said: Sequence[bytes], tokens: Tokens) -> Tokens:
    """Return a tokeniser that takes long texts and gives the tokens that the library's gives.

    Args:
        kind: What the library calls the architecture.
        said: What each token stands for.
        tokens: The library's tokeniser.
    """
    if kind in {"llama", "gguf"}:
        return tokens
    if kind == "replit":
        return BestOfAll(said, tokens)
    marks = [mark for mark in _MARKS.get(kind, ()) if kind == "dolly-v2" or mark in said]
    return LongestFirst(said, tokens, marks=marks)


class LongestFirst:
    """The tokeniser of the gpt2 family.

    Args:
        said: What each token stands for.
        tokens: The library's tokeniser.
        marks: What is one word whatever is in it.
    """

    def __init__(self, said: Sequence[bytes], tokens: Tokens, *, marks: Sequence[bytes] = ()) -> None:
        self._said = said
        self._tokens = tokens
        self._longest = max(map(len, said))
        self._piece = min(max(2 * self._longest, FEW_BYTES), LONGEST_PIECE_BYTES)
        self._cut = re.compile(b"(" + b"|".join(map(re.escape, marks)) + b")") if marks else None

    def __call__(self, text: bytes) -> list[int]:
        """Return the tokens of a text without a NUL.

        Raises:
            InvalidRequest: There is a long word in it, and so long a token in the vocabulary that it could be in there;
                or there is too much of such words.
        """
        long_bytes = 0
        parts = self._cut.split(text) if self._cut is not None else [text]
        found: list[int] = []
        for place, part in enumerate(parts):
            if place % 2:
                found += self._tokens(part)
                continue
            for piece, long in _groups(part, self._piece):
                long_bytes += len(piece) * long
                if long_bytes > LONG_WORDS_BYTES:
                    raise InvalidRequest(
                        f"the request is not valid: its text has words of more than {self._piece} bytes, and the "
                        f"engine ctransformers reads {LONG_WORDS_BYTES} bytes of them at most with this model"
                    )
                found += self._long(piece) if long else self._tokens(piece)
        return found

    def _long(self, word: bytes) -> list[int]:
        certain = self._piece - self._longest
        if certain < 0:
            raise InvalidRequest(
                f"the request is not valid: its text has a word of {len(word)} bytes, and the engine ctransformers "
                f"reads words of {self._piece} at most with this model"
            )
        found: list[int] = []
        start = 0
        while len(word) - start > self._piece:
            piece = word[start : start + self._piece]
            end = 0
            for token in self._tokens(piece):
                place = piece.find(self._said[token], end)  # what no token stands for is left out
                if place > certain:
                    break
                found.append(token)
                end = place + len(self._said[token])
            start += max(end, certain + 1)
        return found + self._tokens(word[start:])


def _groups(text: bytes, longest: int) -> Iterator[tuple[bytes, bool]]:
    """Yield words together, and those above *longest* bytes alone; tell which of the two it is.

    The last of many spaces is a word only because of what is behind: a group that ended with both would have one word
    of them.
    """
    start = end = 0
    for word in _WORD.finditer(text):
        long = word.end() - word.start() > longest
        last_space = word[0].isspace() and text[max(end - 1, 0) : end].isspace()
        if end > start and (long or last_space or word.end() - start > GROUP_BYTES):
            yield text[start:end], False
            start = end
        end = word.end()
        if long:
            yield text[start:end], True
            start = end
    if end > start:
        yield text[start:end], False


class BestOfAll:
    """The tokeniser of replit.

    A piece of which the vocabulary has not every letter is one unknown token, as a whole text is to the library.

    Args:
        said: What each token stands for.
        tokens: The library's tokeniser.
    """

    def __init__(self, said: Sequence[bytes], tokens: Tokens) -> None:
        self._tokens = tokens
        self._vocabulary = frozenset(data.replace(b" ", SPACE) for data in said)
        self._sizes = sorted({len(data) for data in self._vocabulary if len(data) > 1})
        self._pairs = frozenset(data[at : at + 2] for data in self._vocabulary for at in range(len(data) - 1))

    def __call__(self, text: bytes) -> list[int]:
        """Return the tokens of a text without a NUL.

        Raises:
            InvalidRequest: It is too long, or cannot be cut where it had to be.
        """
        if len(text) > REPLIT_TEXT_BYTES:
            raise InvalidRequest(
                f"the request is not valid: its text has {len(text)} bytes, and the engine ctransformers reads "
                f"{REPLIT_TEXT_BYTES} at most with a model of the architecture replit"
            )
        text = text.replace(b" ", SPACE)
        found: list[int] = []
        start = 0
        while start < len(text):
            end = self._end(text, start)
            found += self._tokens(text[start:end])
            start = end
        return found

    def _end(self, text: bytes, start: int) -> int:
        last = start + LONGEST_PIECE_BYTES
        for place in range(start + FEW_BYTES, min(last + 1, len(text))):
            if text[place] & 0xC0 != 0x80 and not self._reached_over(text, place):  # no cut within a character
                return place
        if len(text) > last:
            raise InvalidRequest(
                f"the request is not valid: its text has {LONGEST_PIECE_BYTES} bytes that hang together, such as many "
                "spaces, and the engine ctransformers reads no more with a model of the architecture replit"
            )
        return len(text)

    def _reached_over(self, text: bytes, place: int) -> bool:
        """Tell whether a token could begin before a place and end behind it."""
        return text[place - 1 : place + 1] in self._pairs and any(
            text[start : start + size] in self._vocabulary
            for size in self._sizes
            for start in range(max(place - size + 1, 0), place)
        )
