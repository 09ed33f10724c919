"""What a decision is made from: one frozen picture of one model's demand and of what could serve it. Types only.

Everything is plain data, so that a recorded snapshot can be stored, read back and decided on again.
"""

from __future__ import annotations

import msgspec

from llorch.policy import ModelPolicy
from llorch.wire.pools import Backend


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A ready worker and its slots."""

    worker_id: str
    pool_id: str
    free_slots: int
    leases: int
    memory_free_bytes: int


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that has computed the beginning of a job's prompt.

    `kept_bytes` of it are in `kept_slots` slots that are idle, `busy_bytes` in `busy_slots` slots that have other jobs,
    of whose prompts `unread_bytes` were to be computed.
    """

    worker: WorkerView
    kept_bytes: int = 0
    kept_slots: int = 1
    busy_bytes: int = 0
    busy_slots: int = 0
    unread_bytes: int = 0


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A job of whose prompt some workers have computed a part; held back since `held_since_ms`, if that is not 0."""

    job_id: str
    prompt_bytes: int
    kept: tuple[Kept, ...]
    held_since_ms: int = 0


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a model: reading a prompt, and a job from its first token to its end. Zeros before that."""

    prefill_ms_per_byte: float = 0.0
    decode_ms: float = 0.0

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return self.prefill_ms_per_byte > 0


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a pool did not start a worker, and from when it may be asked again; `device` empty is all of the pool."""

    pool_id: str
    device: str = ""
    code: str
    message: str
    retry_at_ms: int
    permanent: bool = False


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Why no worker without jobs is started there: the last `deaths` died soon after they were ready; until when."""

    pool_id: str
    device: str
    code: str
    reason: str
    deaths: int
    until_ms: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """About how much of a model that is laid over several devices one of them takes."""

    device: str
    need_bytes: int


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A device where a worker of the model fits now. `device` is empty where the pool has to choose.

    With `parts`, several devices of one pool, over which the model is laid because none is large enough.

    `available_bytes` is what may still be given away; `need_bytes` what the worker takes, 0 while nobody knows.
    `suspect` is why the pool doubts that memory of it has come back.
    """

    pool_id: str
    device: str
    backend: Backend
    has_file: bool
    available_bytes: int
    need_bytes: int
    suspect: str = ""
    parts: tuple[Part, ...] = ()


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """A device of whose memory less can be used than it has: other programs hold it, or it has not come back."""

    pool_id: str
    device: str
    others_bytes: int = 0
    suspect: str = ""


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that holds memory: idle since `last_used_ms`, if it has no leases."""

    worker_id: str
    model_ref: str
    memory_bytes: int
    leases: int
    last_used_ms: int
    ready_ms: int


class Eviction(msgspec.Struct, frozen=True, kw_only=True):
    """A device where the model would fit if (some of) these workers ended; those to end first come first."""

    place: Place
    tenants: tuple[Tenant, ...]


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Memory that is being made free for the model: the workers that still hold it, and those told to end."""

    pool_id: str
    device: str
    tenants: tuple[Tenant, ...] = ()
    told: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, tag_field="about", tag="model"):
    """One model, with what a decision about it depends on.

    Attributes:
        now_ms: The time.
        model_ref: The model.
        policy: What the operator wants of it.
        waiting: Jobs that wait, those that rest between attempts included.
        heads: The first jobs that may run now, in order: as many as `workers` have free slots, and a few more where
            some may be held back.
        hungry_since_ms: Since when jobs wait without one of them being dispatched.
        workers: Ready workers with a free slot, least loaded first; as many as could be needed.
        wishes: Those of `heads` whose prompt some worker has computed in part.
        pace: What was measured of the model.
        busy: All other ready workers, most of them without a free slot.
        slots: Of all ready workers together.
        starting: Workers on their way.
        room: Memory that is being made free.
        places: Where a worker fits, those with the file if there are any.
        evictions: Where one fits once idle workers have ended.
        turns: Where one fits once workers have ended that have served long enough.
        refusals: Those of online pools that still hold, the most telling first.
        pauses: Where no worker is started now because the last ones died; none where jobs wait, which do not mind.
        online: Pools that take work.
        askable: Pools that take work and have not refused this model.
        absent: Pools that are away and have the file.
        returning: Whether pools may yet come back that were there before this process was.
        need_bytes: What a worker takes at least, 0 while nobody knows.
        largest_bytes: What the largest device could give if it were empty of our workers.
        together_bytes: What all devices of one pool could give together, where some pool has several.
        doubts: Some devices of which less can be used than they have, where memory is what is missing.
    """

    now_ms: int
    model_ref: str
    policy: ModelPolicy = ModelPolicy()
    waiting: int = 1
    heads: tuple[str, ...] = ()
    hungry_since_ms: int = 0
    workers: tuple[WorkerView, ...] = ()
    wishes: tuple[Wish, ...] = ()
    pace: Pace = Pace()
    busy: int = 0
    slots: int = 0
    starting: int = 0
    room: Room | None = None
    places: tuple[Place, ...] = ()
    evictions: tuple[Eviction, ...] = ()
    turns: tuple[Eviction, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    pauses: tuple[Pause, ...] = ()
    online: int = 0
    askable: int = 0
    absent: tuple[str, ...] = ()
    returning: bool = False
    need_bytes: int = 0
    largest_bytes: int = 0
    together_bytes: int = 0
    doubts: tuple[Doubt, ...] = ()


class IdleSnapshot(msgspec.Struct, frozen=True, kw_only=True, tag_field="about", tag="worker"):
    """A ready worker without leases whose time is up, as far as the clock goes."""

    now_ms: int
    tenant: Tenant
    policy: ModelPolicy
    waiting: int
    workers: int
    """Ready workers of its model, itself included."""
