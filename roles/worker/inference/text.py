"""Cutting generated text: stop sequences, and nothing that is not a character. Pure.

Strategy: text that could be the beginning of a stop sequence is held back until the text behind it decides. What
comes out therefore does not depend on how the text was split into pieces: it is the text up to the stop sequence
that was complete first, and of those complete at the same place, the longest.
"""

from __future__ import annotations

from collections.abc import Sequence

from roles.worker.backend import REPLACEMENT


class Cutter:
    """Cuts one job's text, piece by piece.

    Args:
        stops: The texts that end the output; none is empty.
        held: What an earlier attempt held back: the text goes on behind it.
    """

    def __init__(self, stops: Sequence[str], *, held: str = "") -> None:
        self._stops = tuple(stops)
        self.held = held
        self.stopped = False

    def feed(self, piece: str) -> str:
        """Take the next piece; return what can be shown now.

        `stopped` tells whether a stop sequence was met, `held` what is not shown: it and what came behind it then.
        """
        if REPLACEMENT in piece:
            piece = piece.replace(REPLACEMENT, "")
        if not self._stops and not self.held:
            return piece
        text = self.held + piece
        end = first_stop(text, self._stops)
        if end is not None:
            self.stopped = True
        else:
            end = len(text) - undecided(text, self._stops)
        self.held = text[end:]
        return text[:end]

    def flush(self) -> str:
        """Return what was held back: the text is over, so it begins no stop sequence."""
        held, self.held = self.held, ""
        return held


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the stop sequence that is complete first begins; None when there is none."""
    best: tuple[int, int] | None = None
    for stop in stops:
        start = text.find(stop)
        if start >= 0 and (best is None or (start + len(stop), start) < best):
            best = (start + len(stop), start)
    return None if best is None else best[1]


def undecided(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of *text* may begin a stop sequence."""
    longest = 0
    for stop in stops:
        start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
        while start >= 0:
            if stop.startswith(text[start:]):
                longest = max(longest, len(text) - start)
                break
            start = text.find(stop[0], start + 1)
    return longest
