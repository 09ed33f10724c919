"""The devices of each pool that has several of one kind: what they could give together. No I/O, no clock.

Owned by the capacity, whose books it reads. A device whose memory cannot be trusted is in no group.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from sortedcontainers import SortedList

from llorch.wire.pools import Backend
from roles.orchestrator.scheduler.snapshot import Part, Place

EXTRA = 20
"""Each further device takes a twentieth more than one alone would, for buffers of its own."""

Spot = tuple[str, str]


class Book(Protocol):
    """What is known of a device."""

    backend: Backend
    suspect: str

    @property
    def available_bytes(self) -> int:
        """What it can still give away."""

    @property
    def whole_bytes(self) -> int:
        """What it could give if it were empty."""


class Groups:
    """The groups of all pools.

    Args:
        books: What is known of each device.
    """

    def __init__(self, books: Mapping[Spot, Book]) -> None:
        self._books = books
        self._members: dict[str, Sequence[Spot]] = {}
        self._sums: dict[str, int] = {}
        self._sizes: SortedList[int] = SortedList()
        self._largest: dict[str, int] = {}
        self._largests: SortedList[int] = SortedList()

    def put(self, pool_id: str, spots: Collection[Spot]) -> None:
        """Take in which devices a pool has now; one alone is no group."""
        before = self._sums.pop(pool_id, None)
        self._members.pop(pool_id, None)
        if before is not None:
            self._sizes.remove(before)
            self._largests.remove(self._largest.pop(pool_id))
        trusted = [spot for spot in spots if not self._books[spot].suspect]
        if len(trusted) > 1:
            self._members[pool_id] = trusted
            sizes = [self._books[spot].whole_bytes for spot in trusted]
            self._sums[pool_id], self._largest[pool_id] = sum(sizes), max(sizes)
            self._sizes.add(self._sums[pool_id])
            self._largests.add(self._largest[pool_id])

    def of(self, pool_id: str) -> Sequence[Spot]:
        """Return the devices of a pool that a model can be laid over."""
        return self._members.get(pool_id, ())

    def among(self, pool_ids: Collection[str]) -> Iterator[str]:
        """Yield those of some pools that have a group."""
        few, many = sorted((pool_ids, self._members), key=len)
        return (pool_id for pool_id in few if pool_id in many)

    def largest(self) -> int:
        """Return what the largest group could give if it were empty."""
        return self._sizes[-1] if self._sizes else 0

    def largest_of(self, pool_id: str) -> int:
        """Return what the largest device of a pool's group could give if it were empty."""
        return self._largest.get(pool_id, 0)

    def needed_for(self, need_bytes: int) -> bool:
        """Tell whether there is a group none of whose devices could ever have so much."""
        return bool(self._largests) and need_bytes > self._largests[0]

    def place(self, pool_id: str, having: Collection[str], spots: Sequence[Spot], need_bytes: int) -> Place:
        """Describe devices of a pool as one place: as few of them as can give it now, else all of them."""
        by_room = sorted(spots, key=lambda spot: -self._books[spot].available_bytes)
        chosen, needed = by_room, _with_extra(need_bytes, len(by_room))
        for count in range(2, len(by_room)):
            wanted = _with_extra(need_bytes, count)
            if sum(self._books[spot].available_bytes for spot in by_room[:count]) >= wanted:
                chosen, needed = by_room[:count], wanted
                break
        rooms = {spot: max(1, self._books[spot].available_bytes) for spot in spots if spot in chosen}
        fits = sum(rooms.values()) >= needed
        if not fits:  # what is in the way ends first: then there is about as much as there is of them
            rooms = {spot: max(1, self._books[spot].whole_bytes) for spot in spots}
        total = sum(rooms.values())
        parts = tuple(Part(device=spot[1], need_bytes=needed * room // total) for spot, room in rooms.items())
        return Place(
            pool_id=pool_id,
            device="",
            backend=self._books[spots[0]].backend if spots else "cpu",
            has_file=pool_id in having,
            available_bytes=sum(self._books[spot].available_bytes for spot in rooms),
            need_bytes=needed,
            parts=parts if len(parts) > 1 else (),
        )


def _with_extra(need_bytes: int, count: int) -> int:
    return need_bytes + need_bytes * (count - 1) // EXTRA
