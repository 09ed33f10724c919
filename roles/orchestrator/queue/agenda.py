"""Which models are to be looked at, and in what order. Pure; one owner, the placement.

A model comes before others by its urgency, which is asked for when it is added. A round of all models is begun only
when the one before is over: however many there are, and however long a round takes, each of them has its turn.
Every operation costs O(log n) for each model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush

Urgency = tuple[bool, int]


class Agenda:
    """The models that are still to be looked at, each once.

    Args:
        urgency: What models are taken by, smallest first.
    """

    def __init__(self, urgency: Callable[[str], Urgency]) -> None:
        self._urgency = urgency
        self._due: dict[str, Urgency] = {}
        self._heap: list[tuple[Urgency, str]] = []
        self._round: set[str] = set()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, model_refs: Iterable[str]) -> None:
        """Have models looked at; one that is to be looked at anyway takes the place that it has earned by now."""
        for model_ref in model_refs:
            urgency = self._urgency(model_ref)
            if self._due.get(model_ref) != urgency:
                self._due[model_ref] = urgency
                heappush(self._heap, (urgency, model_ref))

    def begin_round(self, model_refs: Iterable[str]) -> None:
        """Have all these models looked at, unless some of the last round are still to come."""
        if not self._round:
            self._round.update(model_refs)
            self.add(self._round)

    def take(self, count: int) -> list[str]:
        """Return up to *count* models, the most urgent first: they are being looked at."""
        found: list[str] = []
        while self._heap and len(found) < count:
            urgency, model_ref = heappop(self._heap)
            if self._due.get(model_ref) == urgency:  # else it has another place, or had its turn
                del self._due[model_ref]
                found.append(model_ref)
        self._round.difference_update(found)
        return found
