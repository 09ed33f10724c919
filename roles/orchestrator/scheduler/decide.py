"""From one snapshot to a list of decisions: the same snapshot, the same decisions. Pure.

The rules, for a model that jobs wait for; the first that applies is followed:
  1. A ready worker has a free slot: dispatch, as `dispatching.py` says.
  2. Room is being made for it: end the idle workers that are in the way; start once all are gone.
  3. It has workers, busy or starting: wait, or start another where memory is free, if many jobs wait.
  4. It fits somewhere, be it on several devices of one pool together where none is large enough: start a worker; a
     device whose memory can be trusted first, then a pool that has the file, then the best kind of device, then the
     tightest fit, so that large holes stay for large models.
  5. It fits once idle workers end: those used least recently, no more than needed.
  6. Its jobs have waited for `AGED_MS` without one being dispatched: a worker of another model that has served for
     `TURN_MS` takes no more jobs and ends when it has none.
  7. Every pool has refused for good and none is away that may have the file: reject, with the most telling refusal.
  8. Else wait, and say for what.

Rule 5 serves the jobs of one model together: a worker whose model has jobs waiting is not idle. Rule 6 bounds how
long another model waits for that. Models are decided on by how long they have been hungry, so one that has had its
turn is behind all others: with m models that want the same memory, each waits for at most `AGED_MS` and m turns, each
as long as `TURN_MS`, the longest job that then still runs, and a load.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from roles.orchestrator.scheduler.decisions import (
    Decision,
    Dispatch,
    DropRoom,
    MakeRoom,
    Reject,
    StartWorker,
    StopWorker,
    Wait,
    place_name,
    size,
)
from roles.orchestrator.scheduler.dispatching import dispatches
from roles.orchestrator.scheduler.snapshot import Doubt, Eviction, IdleSnapshot, Place, Refusal, Room, Snapshot, Tenant

AGED_MS = 30_000
TURN_MS = 30_000
REPLICA_QUEUE = 2
"""Another worker is started when more than so many jobs wait for each slot that there is."""
RANK = {"cuda": 0, "metal": 1, "cpu": 2}


def decide(snapshot: Snapshot) -> list[Decision]:
    """Return what to do now about one model. O(j log w) for j dispatched jobs and w workers in the snapshot."""
    decisions: list[Decision] = list(dispatches(snapshot))
    left = snapshot.waiting - sum(isinstance(decision, Dispatch) for decision in decisions)
    if left > 0:
        decisions += _supply(snapshot, left=left)
    elif snapshot.room is not None:
        decisions.append(DropRoom(snapshot.model_ref, "no job waits for the model any more"))
    elif short(snapshot) and snapshot.places:
        decisions.append(_start(snapshot, snapshot.places))
    elif short(snapshot) and snapshot.pauses:
        decisions.append(_pause(snapshot))
    return decisions


def decide_idle(snapshot: IdleSnapshot) -> list[Decision]:
    """Return what to do about a worker without jobs: end it when it has been idle for its model's `keep_alive_s`."""
    tenant, policy = snapshot.tenant, snapshot.policy
    idle_s = (snapshot.now_ms - tenant.last_used_ms) / 1000
    spared = policy.pinned or snapshot.waiting or snapshot.workers <= policy.min_replicas
    if tenant.leases or spared or idle_s < policy.keep_alive_s:
        return []
    return [StopWorker(tenant.worker_id, tenant.model_ref, "idle", f"it has had no job for {idle_s:.0f} s")]


def victims(eviction: Eviction) -> tuple[Tenant, ...]:
    """Return the workers to end: from the front, and of those only the ones that are needed."""
    missing = eviction.place.need_bytes - eviction.place.available_bytes
    chosen: list[Tenant] = []
    for tenant in eviction.tenants:
        if missing <= 0:
            break
        chosen.append(tenant)
        missing -= tenant.memory_bytes
    for tenant in reversed(chosen):
        if missing + tenant.memory_bytes <= 0:
            chosen.remove(tenant)
            missing += tenant.memory_bytes
    return tuple(chosen)


def _supply(snapshot: Snapshot, *, left: int) -> Iterator[Decision]:
    """Rules 2 to 8, for the jobs that found no slot."""
    model_ref = snapshot.model_ref
    if snapshot.room is not None:
        yield from _in_room(snapshot, snapshot.room)
        return
    if snapshot.slots or snapshot.starting:
        if snapshot.places and (short(snapshot) or hot(snapshot, left)):
            yield _start(snapshot, snapshot.places, replica=True)
        elif snapshot.slots and left and not snapshot.workers:
            yield Wait(model_ref, "slot", "every slot of the workers that have the model is busy")
        elif not snapshot.slots:
            yield Wait(model_ref, "loading", "a worker is loading the model")
        return
    if snapshot.places:
        yield _start(snapshot, snapshot.places)
    elif snapshot.evictions:
        yield from _evict(snapshot, snapshot.evictions)
    elif snapshot.turns and snapshot.now_ms - snapshot.hungry_since_ms >= AGED_MS:
        yield from _evict(snapshot, snapshot.turns)
    else:
        yield _patience(snapshot)


def _in_room(snapshot: Snapshot, room: Room) -> Iterator[Decision]:
    """Rule 2. The books may still say that nothing is free: the pool measures, so it is asked."""
    if not room.tenants:
        place = next((p for p in snapshot.places if (p.pool_id, p.device) == (room.pool_id, room.device)), None)
        available, has_file = (place.available_bytes, place.has_file) if place else (0, True)
        yield StartWorker(
            snapshot.model_ref,
            room.pool_id,
            room.device,
            snapshot.need_bytes,
            available,
            has_file=has_file,
            parts=room.parts,
        )
        return
    for tenant in room.tenants:
        if not tenant.leases and tenant.worker_id not in room.told:
            yield StopWorker(tenant.worker_id, tenant.model_ref, "room", f"{snapshot.model_ref} needs its memory")
    jobs = sum(tenant.leases for tenant in room.tenants)
    names = ", ".join(sorted({tenant.model_ref for tenant in room.tenants}))
    after = f", which has {jobs} jobs to finish" if jobs else ""
    where = place_name(room.pool_id, room.device, room.parts)
    yield Wait(snapshot.model_ref, "room", f"memory on {where} is being freed by {names}{after}")


def _evict(snapshot: Snapshot, evictions: Sequence[Eviction]) -> Iterator[Decision]:
    """Rules 5 and 6: a device to be trusted, with the file, listed first: it ends what was used least recently."""
    best = min(evictions, key=lambda eviction: (bool(eviction.place.suspect), not eviction.place.has_file))
    chosen, place = victims(best), best.place
    names = ", ".join(f"{tenant.worker_id} ({tenant.model_ref})" for tenant in chosen)
    text = (
        f"room for {size(place.need_bytes)} is made on {place_name(place.pool_id, place.device, place.parts)}, where "
        f"{size(place.available_bytes)} are available, by ending {names}"
    )
    room = tuple(tenant.worker_id for tenant in chosen)
    yield MakeRoom(snapshot.model_ref, place.pool_id, place.device, place.need_bytes, room, text, place.parts)
    made = Room(pool_id=place.pool_id, device=place.device, tenants=chosen, parts=place.parts)
    yield from _in_room(snapshot, made)


def _start(snapshot: Snapshot, places: Sequence[Place], *, replica: bool = False) -> StartWorker:
    """Rule 4."""
    best = min(places, key=_fit)
    return StartWorker(
        snapshot.model_ref,
        best.pool_id,
        best.device,
        best.need_bytes,
        best.available_bytes,
        has_file=best.has_file,
        replica=replica,
        suspect=best.suspect,
        parts=best.parts,
    )


def _fit(place: Place) -> tuple[bool, bool, int, int, str, str]:
    spare = place.available_bytes - place.need_bytes if place.need_bytes else -place.available_bytes
    return (bool(place.suspect), not place.has_file, RANK[place.backend], spare, place.pool_id, place.device)


def short(snapshot: Snapshot) -> bool:
    """Tell whether the model has fewer workers than the operator wants of it at least."""
    have = len(snapshot.workers) + snapshot.busy + snapshot.starting
    return have < snapshot.policy.min_replicas


def hot(snapshot: Snapshot, left: int) -> bool:
    """Tell whether so many jobs wait that another worker pays: not while one is on its way."""
    have = len(snapshot.workers) + snapshot.busy
    return not snapshot.starting and left > REPLICA_QUEUE * snapshot.slots and have < snapshot.policy.max_replicas


def _patience(snapshot: Snapshot) -> Decision:
    """Rules 7 and 8."""
    model_ref, refusals = snapshot.model_ref, snapshot.refusals
    if not snapshot.online:
        away = f"; {_names(snapshot.absent)} has it and is offline or draining" if snapshot.absent else ""
        return Wait(model_ref, "pool", f"no pool is online{away}; start one with: llorch serve pool")
    if not snapshot.askable and refusals and all(refusal.permanent for refusal in refusals):
        if snapshot.absent:
            text = f"{_names(snapshot.absent)} has the model and is offline or draining; {_telling(refusals).message}"
            return Wait(model_ref, "pool", text)
        if snapshot.returning:
            return Wait(model_ref, "pool", "pools may yet come back since the orchestrator was restarted")
        return Reject(model_ref, _telling(refusals).code, _telling(refusals).message)
    if snapshot.need_bytes > max(snapshot.largest_bytes, snapshot.together_bytes):
        needed, largest = size(snapshot.need_bytes), size(snapshot.largest_bytes)
        text = f"it needs {needed} and the largest device that is online has {largest}"
        if snapshot.together_bytes:
            text += f", those of one pool together {size(snapshot.together_bytes)}"
        return Wait(model_ref, "memory", text + _doubted(snapshot.doubts))
    later = next((refusal for refusal in refusals if not refusal.permanent), None)
    if later is not None:
        seconds = max(0, later.retry_at_ms - snapshot.now_ms) / 1000
        return Wait(model_ref, "backoff", f"{later.message}; asked again in {seconds:.0f} s")
    text = f"{size(snapshot.need_bytes)} are free nowhere, and what holds the memory has jobs to do"
    return Wait(model_ref, "memory", text + _doubted(snapshot.doubts))


def _pause(snapshot: Snapshot) -> Wait:
    """Say why a worker that is to be kept without jobs is not there."""
    first = min(snapshot.pauses, key=lambda pause: pause.until_ms)
    text = (
        f"the last worker on {place_name(first.pool_id, first.device, ())} died soon after it was ready "
        f"({first.reason}), in a row: {first.deaths}; the next one is started in "
        f"{(first.until_ms - snapshot.now_ms) / 1000:.0f} s, or when a job comes"
    )
    return Wait(snapshot.model_ref, "pause", text)


def _doubted(doubts: Sequence[Doubt]) -> str:
    """Say which devices have less to give than it seems, and why."""
    told = ""
    for doubt in doubts:
        where = f"{doubt.device} of pool {doubt.pool_id}"
        if doubt.others_bytes:
            told += f"; other programs hold {size(doubt.others_bytes)} of {where}"
        if doubt.suspect:
            told += f"; {where} is suspect: {doubt.suspect}"
    return told


def _telling(refusals: Sequence[Refusal]) -> Refusal:
    return min(refusals, key=lambda refusal: (refusal.code == "MODEL_NOT_FOUND", refusal.message))


def _names(pool_ids: Sequence[str]) -> str:
    return "pool " + ", ".join(pool_ids)
