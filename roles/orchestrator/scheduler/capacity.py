"""What every device can still give away, kept in order so that a place is found without looking at all. No clock.

Memory is counted twice, as a pool's preflight does it, and the smaller result holds: what is free now less what
starting workers have not taken yet, and all there is less what all workers and other programs hold. What has been
promised since and no heartbeat can show yet goes off both. A device whose pool doubts that memory has come back is
listed behind all others: what is measured of it holds, what is computed does not. Owned by the fleet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice

from sortedcontainers import SortedList

from llorch.wire.pools import Backend, Device, Worker
from roles.orchestrator.scheduler.decide import RANK
from roles.orchestrator.scheduler.groups import Groups
from roles.orchestrator.scheduler.snapshot import Doubt, Place

ENOUGH = 4
FEW = 8
"""Up to so many pools are looked at one by one; among more, a place is soon found in the order of what is free."""
FEW_DOUBTS = 4
SUSPECT_RANK = 10
"""Added to the rank of a device whose memory cannot be trusted."""
LIVE = frozenset({"starting", "ready", "busy", "draining"})

Spot = tuple[str, str]
"""A pool and one of its devices."""
_Key = tuple[int, int, str, str]


@dataclass(slots=True)
class DeviceBook:
    """One device, what its pool says of it and what was promised since.

    `aside` is one that is not of its pool's best kind: only a model whose engine computes on no other goes there.
    """

    backend: Backend
    total_bytes: int
    free_bytes: int
    reserve_bytes: int
    others_bytes: int = 0
    suspect: str = ""
    aside: bool = False
    held_bytes: int = 0
    pending_bytes: int = 0
    promised: dict[str, int] = field(default_factory=dict)

    @property
    def available_bytes(self) -> int:
        """What may still be given away; below 0 when more has been promised than there is."""
        free = min(self.free_bytes - self.pending_bytes, self.total_bytes - self.others_bytes - self.held_bytes)
        return free - sum(self.promised.values()) - self.reserve_bytes

    @property
    def whole_bytes(self) -> int:
        """What it could give if none of our workers were there."""
        return self.total_bytes - self.others_bytes - self.reserve_bytes

    @property
    def rank(self) -> int:
        """Where it is listed: by its kind, behind all others if its memory cannot be trusted."""
        return RANK[self.backend] + (SUSPECT_RANK if self.suspect else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a place is sought for.

    `needs` says what a worker takes on each pool that knows the file, at least `least_bytes`; `need_bytes` is for the
    others, 0 if unknown.
    `blocked` are spots that are not to be asked now, with an empty device for all of a pool; `taken` those not wanted.
    `kinds` says what the model's engine computes on, for each pool where that is not all that it has.
    """

    needs: Mapping[str, int]
    need_bytes: int
    least_bytes: int = 0
    blocked: Collection[Spot] = ()
    taken: Collection[Spot] = ()
    kinds: Mapping[str, Collection[Backend]] = field(default_factory=dict)

    @property
    def limited(self) -> bool:
        """Whether there are pools that know the file, and all are among `kinds`."""
        return bool(self.needs) and self.needs.keys() <= self.kinds.keys()

    def need(self, pool_id: str) -> int:
        """Return what a worker takes on a pool."""
        return self.needs.get(pool_id, 0) or self.need_bytes

    def open(self, spot: Spot) -> bool:
        """Tell whether a spot may be asked."""
        return spot not in self.blocked and (spot[0], "") not in self.blocked and spot not in self.taken


class Capacity:
    """The devices of the pools that take work."""

    def __init__(self) -> None:
        self._books: dict[Spot, DeviceBook] = {}
        self._pools: dict[str, list[Spot]] = {}
        self._aside: dict[str, list[Spot]] = {}
        self._keys: dict[Spot, _Key] = {}
        self._order: SortedList[_Key] = SortedList()
        self._sizes: SortedList[int] = SortedList()
        self._promises: dict[str, Collection[Spot]] = {}
        self._groups = Groups(self._books)
        self._doubted: dict[Spot, None] = {}

    def update(
        self, pool_id: str, devices: Iterable[Device], workers: Iterable[Worker], *, without: Collection[Backend] = ()
    ) -> bool:
        """Take in what a pool says; tell whether one of its devices that count can give away more than before.

        Only its best kind of device counts: a model does not run on the processor because the accelerators are full,
        but because its engine computes there alone.

        Args:
            pool_id: The pool.
            devices: All that it has.
            workers: All that it knows, also those that ended.
            without: Kinds of devices that no engine of it computes on.
        """
        usable = [device for device in devices if device.backend not in without]
        best = min((RANK[device.backend] for device in usable), default=0)
        known = (*self._pools.get(pool_id, ()), *self._aside.get(pool_id, ()))
        before = {spot: self._books[spot] for spot in known}
        books = {
            (pool_id, device.id): DeviceBook(
                device.backend,
                device.memory_total_bytes,
                device.memory_free_bytes,
                device.reserve_bytes,
                device.others_bytes,
                device.suspect if isinstance(device.suspect, str) else "",
                aside=RANK[device.backend] != best,
            )
            for device in usable
        }
        for worker in workers:
            for device_id, size in (worker.shares or {worker.device: worker.memory_bytes}).items():
                book = books.get((pool_id, device_id))
                if book is not None and worker.status in LIVE:
                    book.held_bytes += size
                    book.pending_bytes += size if worker.status == "starting" else 0
        grown = False
        for spot in before.keys() - books.keys():
            self._remove(spot)
        for spot, book in books.items():
            old = before.get(spot)
            if old is not None:
                book.promised = old.promised
            grown |= not book.aside and (old is None or old.aside or book.available_bytes > old.available_bytes)
            self._put(spot, book)
        self._pools[pool_id] = [spot for spot, book in books.items() if not book.aside]
        self._aside[pool_id] = [spot for spot, book in books.items() if book.aside]
        self._groups.put(pool_id, self._pools[pool_id])
        return grown

    def drop(self, pool_id: str) -> None:
        """Forget a pool: it takes no work any more."""
        for spot in (*self._pools.pop(pool_id, ()), *self._aside.pop(pool_id, ())):
            self._remove(spot)
        self._groups.put(pool_id, ())

    def spots(self, pool_id: str, kinds: Collection[Backend] | None = None) -> list[Spot]:
        """Return the devices of a pool that count; for an engine that computes on those *kinds* alone, the best."""
        best = self._pools.get(pool_id, [])
        if kinds is None:
            return best
        fitting = [spot for spot in (*best, *self._aside.get(pool_id, ())) if self._books[spot].backend in kinds]
        least = min((RANK[self._books[spot].backend] for spot in fitting), default=0)
        return [spot for spot in fitting if RANK[self._books[spot].backend] == least]

    def suits(self, spot: Spot, wanted: Wanted) -> bool:
        """Tell whether a device is one that counts for what is wanted."""
        book = self._books.get(spot)
        if book is None or spot[0] not in wanted.kinds:
            return book is not None and not book.aside
        return spot in self.spots(spot[0], wanted.kinds[spot[0]])

    def promise(self, token: str, sizes: Mapping[Spot, int]) -> None:
        """Note memory that will be taken, until `withdraw`; another promise under the same token replaces it."""
        self.withdraw(token)
        there = {spot: size for spot, size in sizes.items() if spot in self._books}
        for spot, size in there.items():
            self._books[spot].promised[token] = size
            self._put(spot, self._books[spot])
        if there:
            self._promises[token] = list(there)

    def withdraw(self, token: str) -> None:
        """Forget a promise."""
        for spot in self._promises.pop(token, ()):
            book = self._books.get(spot)
            if book is not None and book.promised.pop(token, None) is not None:
                self._put(spot, book)

    def available(self, spot: Spot) -> int:
        """Return what a device can give away."""
        book = self._books.get(spot)
        return book.available_bytes if book is not None else 0

    def laid_over(self, pool_id: str, wanted: Wanted) -> bool:
        """Tell whether a worker on a pool has to be laid over several devices: there are, and none is large enough."""
        return pool_id not in wanted.kinds and wanted.need(pool_id) > self._groups.largest_of(pool_id) > 0

    def available_at(self, spot: Spot, wanted: Wanted) -> int:
        """Return what a device can give away, or with an empty one those of a pool together."""
        if spot[1]:
            return self.available(spot)
        return sum(self._books[one].available_bytes for one in self._groups.of(spot[0]) if wanted.open(one))

    def backend(self, spot: Spot) -> Backend | None:
        """Return what kind of device it is; None when it is not there."""
        book = self._books.get(spot)
        return book.backend if book is not None else None

    def largest(self, wanted: Wanted, *, elsewhere: bool) -> int:
        """Return what the largest device could give if it were empty; one that counts for what is wanted."""
        own = [self._books[spot].whole_bytes for spot in self._spots_of_kinds(wanted)]
        if own and not elsewhere and wanted.limited:
            return max(own)
        return max([*own, self._sizes[-1]]) if self._sizes else 0

    def together(self, wanted: Wanted, *, elsewhere: bool) -> int:
        """Return what the devices of one pool could give together if they were empty; 0 where that is of no use."""
        return self._groups.largest() if elsewhere or not wanted.limited else 0

    def suspect(self, spot: Spot) -> str:
        """Return why a device's memory cannot be trusted; empty when it can."""
        book = self._books.get(spot)
        return book.suspect if book is not None else ""

    def doubts(self, wanted: Wanted, *, elsewhere: bool) -> tuple[Doubt, ...]:
        """Return some devices in question of which less can be used than they have."""
        spots = (spot for spot in self._doubted if (elsewhere or spot[0] in wanted.needs) and self.suits(spot, wanted))
        return tuple(
            Doubt(pool_id=pool_id, device=device, others_bytes=book.others_bytes, suspect=book.suspect)
            for pool_id, device in islice(spots, FEW_DOUBTS)
            for book in (self._books[pool_id, device],)
        )

    def places(self, wanted: Wanted, *, elsewhere: bool) -> tuple[Place, ...]:
        """Return some of the best places for a worker: with the file if there are any; without it if *elsewhere*."""
        with_file = wanted.needs
        if with_file:
            if len(with_file) <= FEW:
                spots = (spot for pool_id in with_file for spot in self.spots(pool_id, wanted.kinds.get(pool_id)))
                sign = 1 if wanted.need_bytes else -1
                known = (self._keys[spot] for spot in spots)
                keys: Iterable[_Key] = sorted(known, key=lambda key: (key[0], sign * key[1], key[2:]))
            else:
                listed = (key for key in self._ordered(wanted) if key[2] in with_file and key[2] not in wanted.kinds)
                keys = chain(listed, sorted(self._keys[spot] for spot in self._spots_of_kinds(wanted)))
            found = self._fitting(keys, wanted)
            if found:
                return found
        if not elsewhere:
            return ()
        return self._fitting((key for key in self._ordered(wanted) if key[2] not in with_file), wanted)

    def anywhere(self, wanted: Wanted) -> tuple[Place, ...]:
        """Return pools where a worker can start that takes no memory, whatever their devices hold."""
        open_to = (pool_id for pool_id in sorted(wanted.needs) if pool_id in self._pools and wanted.open((pool_id, "")))
        return tuple(
            Place(pool_id=pool_id, device="", backend="cpu", has_file=True, available_bytes=0, need_bytes=0)
            for pool_id in islice(open_to, ENOUGH)
        )

    def places_together(self, wanted: Wanted) -> tuple[Place, ...]:
        """Return pools with the file over whose devices a worker can be laid now, because none is large enough."""
        found: list[Place] = []
        for pool_id in self._groups.among(wanted.needs) if self._groups.needed_for(wanted.need_bytes) else ():
            if not self.laid_over(pool_id, wanted) or self.available_at((pool_id, ""), wanted) < wanted.need(pool_id):
                continue
            place = self.place((pool_id, ""), wanted)
            if place.parts and place.available_bytes >= place.need_bytes:
                found.append(place)
                if len(found) == ENOUGH:
                    break
        return tuple(found)

    def place(self, spot: Spot, wanted: Wanted) -> Place:
        """Describe a device, or with an empty one all of a pool, as a place for a worker, whether one fits or not."""
        pool_id, device = spot
        need = wanted.need(pool_id)
        if not device:
            open_to = [spot for spot in self._groups.of(pool_id) if wanted.open(spot)]
            return self._groups.place(pool_id, wanted.needs, open_to, need)
        return Place(
            pool_id=pool_id,
            device=device if need else "",
            backend=self._books[spot].backend,
            has_file=pool_id in wanted.needs,
            available_bytes=self._books[spot].available_bytes,
            need_bytes=need,
            suspect=self._books[spot].suspect,
        )

    def _spots_of_kinds(self, wanted: Wanted) -> list[Spot]:
        return [
            spot
            for pool_id, kinds in wanted.kinds.items()
            if pool_id in wanted.needs
            for spot in self.spots(pool_id, kinds)
        ]

    def _fitting(self, keys: Iterable[_Key], wanted: Wanted) -> tuple[Place, ...]:
        found: list[Place] = []
        for _, available, pool_id, device in keys:
            need = wanted.need(pool_id)
            if (not need or available >= need) and wanted.open((pool_id, device)):
                found.append(self.place((pool_id, device), wanted))
                if len(found) == ENOUGH:
                    break
        return tuple(found)

    def _ordered(self, wanted: Wanted) -> Iterator[_Key]:
        """Yield devices, the best kinds first; tightest fits first, or most free first while the need is unknown."""
        if not self._sizes or wanted.need_bytes > self._sizes[-1]:
            return
        for rank in (*sorted(RANK.values()), *sorted(SUSPECT_RANK + rank for rank in RANK.values())):
            least_bytes = wanted.least_bytes if wanted.need_bytes else -(2**62)
            low, high = (rank, least_bytes, "", ""), (rank + 1, -(2**62), "", "")
            yield from self._order.irange(low, high, reverse=not wanted.need_bytes)

    def _put(self, spot: Spot, book: DeviceBook) -> None:
        self._remove(spot)
        self._books[spot] = book
        key = self._keys[spot] = (book.rank, book.available_bytes, *spot)
        if not book.aside:
            self._order.add(key)
            self._sizes.add(book.whole_bytes)
        if book.suspect or book.others_bytes:
            self._doubted[spot] = None

    def _remove(self, spot: Spot) -> None:
        book = self._books.pop(spot, None)
        if book is not None:
            key = self._keys.pop(spot)
            if not book.aside:
                self._order.remove(key)
                self._sizes.remove(book.whole_bytes)
            self._doubted.pop(spot, None)
