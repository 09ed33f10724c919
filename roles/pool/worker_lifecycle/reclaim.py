"""Proves that the memory of a worker that has ended is back, and marks its device where it is not.

On a CPU the system takes memory back with the last process, so the proof is that none is left; and so does the GPU of a
Mac, whose memory is the same RAM. Another GPU's driver keeps the books: there the proof is a look before and one after.
What other programs took meanwhile, as far as the driver tells, and what living workers were given is not missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from msgspec import UNSET
from msgspec.structs import replace

from llorch import log
from llorch.wire.pools import Backend, Device
from roles.pool.worker_lifecycle import identity
from roles.pool.worker_lifecycle.records import Record

GRACE_S = 10.0
CHECK_S = 0.5
SHARE_MISSED = 4
"""A quarter of what a worker held, and no less than `LEAST_BYTES`, is worth a mark: estimates are not exact."""
LEAST_BYTES = 64 * 2**20
OF_THE_HOST: frozenset[Backend] = frozenset({"cpu", "metal"})
"""What computes in the host's RAM."""
_Key = tuple[str, str]
"""A worker that has ended, and a device that it was on."""
_log = log.get("pool.reclaim")


@dataclass(frozen=True, slots=True)
class Claim:
    """What has to come back: `held_bytes` of a device that looked like `before`, and the session that held it.

    `committed_bytes` is what the other workers of that device had been given then.
    """

    worker_id: str
    session: int
    before: Device
    held_bytes: int
    committed_bytes: int


def missing_bytes(claim: Claim, after: Device, *, committed_bytes: int) -> int:
    """Return how much of a claim has not come back; 0 for too little to tell.

    Args:
        claim: What is waited for.
        after: The same device now.
        committed_bytes: What the living workers of that device are given now.
    """
    others = _held_by_others(after) - _held_by_others(claim.before)
    given = committed_bytes - claim.committed_bytes
    expected = claim.before.memory_free_bytes + claim.held_bytes - max(0, others) - max(0, given)
    missing = expected - after.memory_free_bytes
    return missing if missing >= max(claim.held_bytes // SHARE_MISSED, LEAST_BYTES) else 0


class Reclaim:
    """Waits for memory. The one owner of the marks.

    Args:
        sample: Looks at all devices now.
        committed: Tells the memory of the living workers of a device.
        changed: Called when a mark comes or goes.
    """

    def __init__(
        self,
        sample: Callable[[], Awaitable[Sequence[Device]]],
        committed: Callable[[str], int],
        changed: Callable[[], None],
    ) -> None:
        self._sample = sample
        self._committed = committed
        self._changed = changed
        self._before: dict[str, list[tuple[Device, int]]] = {}
        self._waiting: dict[_Key, tuple[Claim, float]] = {}
        self._marks: dict[_Key, str] = {}
        self._news = asyncio.Event()

    async def look(self, record: Record) -> None:
        """Take a look at the devices of a living worker, before it ends."""
        held = record.held_bytes
        self._before[record.worker_id] = [
            (device, self._committed(device.id) - held[device.id])
            for device in await self._sample()
            if device.id in held
        ]

    def ended(self, record: Record) -> None:
        """Wait for the memory of a worker that has ended; without an earlier look there is nothing to compare."""
        seen = self._before.pop(record.worker_id, None)
        if not seen or not record.was_ready or record.pid is None:
            return
        planned = {share.device: share.memory_bytes for share in record.plan.shares}
        for before, committed in seen:
            # without the tenth that may never have been taken
            estimated = planned.get(before.id, record.plan.memory_bytes) * 10 // 11
            held = min(estimated, record.held_bytes.get(before.id, 0))
            claim = Claim(record.worker_id, record.pid, before, held, committed)
            self._waiting[record.worker_id, before.id] = (claim, asyncio.get_running_loop().time())
        self._news.set()

    def applied(self, devices: Iterable[Device]) -> list[Device]:
        """Return *devices* with the marks that there are."""
        told = {device: problem for (_, device), problem in self._marks.items()}
        return [replace(device, suspect=told.get(device.id, UNSET)) for device in devices]

    async def run(self) -> None:
        """Compare until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            devices = {device.id: device for device in await self._sample()}
            for key, (claim, since) in list(self._waiting.items()):
                problem = await self._problem(claim, devices.get(claim.before.id))
                if not problem:
                    self._settled(key)
                elif loop.time() - since >= GRACE_S and key not in self._marks:
                    self._marks[key] = problem
                    _log.warning("memory_not_back", worker_id=key[0], device=key[1], problem=problem)
                    self._changed()
            if not self._waiting:
                self._news.clear()
                continue
            await asyncio.sleep(CHECK_S)

    async def _problem(self, claim: Claim, after: Device | None) -> str:
        if claim.before.backend in OF_THE_HOST:
            try:
                left = await asyncio.to_thread(identity.members, claim.session)
            except OSError as error:
                return f"whether processes of a worker that ended are left cannot be told: {error.strerror}"
            return f"processes of a worker that ended are left: {', '.join(map(str, left))}" if left else ""
        if after is None:
            return ""  # the device is gone, which is told elsewhere
        missing = missing_bytes(claim, after, committed_bytes=self._committed(after.id))
        return f"{missing // 2**20} MiB of a worker that ended have not come back" if missing else ""

    def _settled(self, key: _Key) -> None:
        del self._waiting[key]
        if self._marks.pop(key, None):
            _log.info("memory_back", worker_id=key[0], device=key[1])
            self._changed()


def _held_by_others(device: Device) -> int:
    return sum(one.memory_bytes for one in device.others if isinstance(one.memory_bytes, int))
