"""What can be decided, each with the words that tell people of it. Types only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from roles.orchestrator.scheduler.snapshot import Part

WaitReason = Literal["slot", "loading", "pool", "backoff", "memory", "room", "pause"]
StopReason = Literal["idle", "room"]


class Dispatch(msgspec.Struct, frozen=True, tag_field="kind", tag="dispatch"):
    """Give a job to a worker, which has computed `kept_bytes` of its prompt: `favoured` where others have less load."""

    job_id: str
    worker_id: str
    pool_id: str
    leases: int
    slots: int
    choices: int
    kept_bytes: int = 0
    prompt_bytes: int = 0
    favoured: bool = False

    @property
    def text(self) -> str:
        """Say it in words."""
        among = "was the only one with a free slot"
        if self.favoured:
            among = f"was the best of {self.choices} with a free slot"
        elif self.choices > 1:
            among = f"was the least loaded of {self.choices} with a free slot"
        load = f"{self.leases} of {self.slots} taken"
        text = f"worker {self.worker_id} of pool {self.pool_id} {among} ({load})"
        if not self.kept_bytes:
            return text
        share = f"{self.kept_bytes / self.prompt_bytes:.0%} of its prompt"
        if self.favoured:
            return f"{text}: it had computed {share}, which outweighs that others had less to do"
        return f"{text}, and had computed {share}"


class Hold(msgspec.Struct, frozen=True, tag_field="kind", tag="hold"):
    """Keep a job waiting for a worker that is computing its beginning for another, until that ends or `until_ms`."""

    job_id: str
    worker_id: str
    pool_id: str
    since_ms: int
    until_ms: int
    saved_ms: int

    @property
    def text(self) -> str:
        """Say it in words."""
        return (
            f"a busy slot of worker {self.worker_id} of pool {self.pool_id} has the beginning of its prompt, which "
            f"would take {self.saved_ms / 1000:.1f} s to compute elsewhere; it goes elsewhere after "
            f"{(self.until_ms - self.since_ms) / 1000:.1f} s"
        )


class StartWorker(msgspec.Struct, frozen=True, tag_field="kind", tag="start_worker"):
    """Ask a pool for a worker; without a device, the pool chooses it."""

    model_ref: str
    pool_id: str
    device: str
    need_bytes: int
    available_bytes: int
    has_file: bool
    replica: bool = False
    suspect: str = ""
    parts: tuple[Part, ...] = ()

    @property
    def text(self) -> str:
        """Say it in words."""
        where = place_name(self.pool_id, self.device, self.parts)
        file = "has the file" if self.has_file else "may have the file"
        fit = f"{size(self.available_bytes)} available"
        if self.need_bytes:
            fit = f"{size(self.need_bytes)} needed, {fit}"
        more = "another worker, for many jobs wait" if self.replica else "a worker"
        doubt = f"; the device is suspect ({self.suspect}), and it fits no other" if self.suspect else ""
        return f"{more} is started on {where}: it {file}, {fit}{doubt}"


class StopWorker(msgspec.Struct, frozen=True, tag_field="kind", tag="stop_worker"):
    """End a worker that has no lease."""

    worker_id: str
    model_ref: str
    reason: StopReason
    text: str


class MakeRoom(msgspec.Struct, frozen=True, tag_field="kind", tag="make_room"):
    """Keep memory of a device for a model, and give these workers no more jobs: they end once they have none."""

    model_ref: str
    pool_id: str
    device: str
    need_bytes: int
    worker_ids: tuple[str, ...]
    text: str
    parts: tuple[Part, ...] = ()


class DropRoom(msgspec.Struct, frozen=True, tag_field="kind", tag="drop_room"):
    """The memory that was kept for a model is not wanted any more."""

    model_ref: str
    text: str


class Reject(msgspec.Struct, frozen=True, tag_field="kind", tag="reject"):
    """End every job that waits for this model: no pool can ever run it."""

    model_ref: str
    code: str
    text: str


class Wait(msgspec.Struct, frozen=True, tag_field="kind", tag="wait"):
    """Nothing can be done for a model now, and this is why."""

    model_ref: str
    reason: WaitReason
    text: str


Decision = Dispatch | Hold | StartWorker | StopWorker | MakeRoom | DropRoom | Reject | Wait


def size(count: int) -> str:
    """Return a number of bytes as people read it."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


def place_name(pool_id: str, device: str, parts: Sequence[Part]) -> str:
    """Return where something is: a device, several of one pool, or the pool that will choose one."""
    devices = ", ".join(part.device for part in parts) or device
    return f"{devices} of pool {pool_id}" if devices else f"pool {pool_id}"
