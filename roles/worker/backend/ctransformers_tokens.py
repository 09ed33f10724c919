"""Texts to the tokens of the engine ctransformers and back: special tokens apart, which its library does not know.

Strategy: a text is cut at the names of special tokens, and the library gets what is between. Where a file does not say
which those are, they are the tokens that look like one: `<|endoftext|>`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from llorch.errors import InvalidRequest

MAX_TEXT_BYTES = 1 << 20
"""No context holds more, and the library takes its time."""
_LOOKS_SPECIAL = re.compile(rb"<\|[^|<>]{1,64}\|>")


class Words:
    """The tokens of one model.

    Args:
        said: What each token stands for.
        specials: Special tokens by name.
        unsaid: There may be more: they are those that look like one.
        begin: The token that begins a text; None where no text begins with one.
        tokens: The library's tokeniser, for a text in which nothing is special.
    """

    def __init__(
        self,
        said: Sequence[bytes],
        specials: Mapping[str, int],
        *,
        unsaid: bool,
        begin: int | None,
        tokens: Callable[[bytes], list[int]],
    ) -> None:
        looking = {data: token for token, data in enumerate(said) if unsaid and _LOOKS_SPECIAL.fullmatch(data)}
        specials = {**{data.decode("utf-8", "replace"): token for data, token in looking.items()}, **specials}
        self._specials = specials
        self._names = {token: name for name, token in specials.items()}
        self._said = [b"" if token in self._names else data for token, data in enumerate(said)]
        self._begin = begin
        self._tokens = tokens
        longest = sorted(specials, key=len, reverse=True)
        self._cut = re.compile("(" + "|".join(map(re.escape, longest)) + ")") if longest else None

    def prompt(self, text: str, behind: str, *, begin: bool) -> list[int]:
        """Return the tokens of a text and of *behind*, which a model wrote: nothing in that is a special token.

        A text that names the token that begins one does not get another, whatever *begin* says; neither does a
        conversation go without one because its template leaves it out.

        Raises:
            InvalidRequest: There is not one token in it, or what the library cannot read.
        """
        whole = (text + behind).encode("utf-8", "replace")
        if b"\0" in whole:
            raise InvalidRequest("the request is not valid: the engine ctransformers reads no text with NUL in it")
        if len(whole) > MAX_TEXT_BYTES:
            raise InvalidRequest(
                f"the request is not valid: its text has {len(whole)} bytes, and the engine ctransformers reads "
                f"{MAX_TEXT_BYTES} at most"
            )
        parts = self._cut.split(text) if self._cut is not None else [text]
        parts[-1] += behind
        found: list[int] = []
        for place, part in enumerate(parts):
            if place % 2:
                found.append(self._specials[part])
            elif part:
                found += self._tokens(part.encode("utf-8", "replace"))
        if self._begin is not None and found[:1] != [self._begin]:
            found.insert(0, self._begin)
        if not found:
            raise InvalidRequest("the request is not valid: the prompt has no tokens")
        return found

    def bytes_of(self, token: int) -> bytes:
        """Return what a token stands for; nothing for special ones."""
        return self._said[token]

    def told(self, token: int) -> tuple[str, list[int]]:
        """Return a token's text and bytes for a list of chances; special ones by their name."""
        if token in self._names:
            return self._names[token], []
        data = self._said[token]
        return data.decode("utf-8", "ignore"), list(data)
