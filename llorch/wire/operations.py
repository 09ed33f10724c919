"""Bodies of what operators ask for: the queue at a glance, and erasing what is no longer wanted. No I/O."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llorch.wire.embedding import Capability
from llorch.wire.tasks import JobState, Priority

FinalState = Literal["completed", "failed", "cancelled"]
MAX_AGE_MS = 100 * 365 * 86_400_000


class LiveJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the overview shows it; `tokens_out` counts what has been written so far."""

    job_id: str
    status: JobState
    model: str
    priority: Priority
    submitted_ms: int
    attempts: int
    tokens_out: int
    max_tokens: int
    queue_position: int | UnsetType = UNSET
    session_id: str | UnsetType = UNSET
    started_ms: int | UnsetType = UNSET
    finished_ms: int | UnsetType = UNSET
    worker_id: str | UnsetType = UNSET
    pool_id: str | UnsetType = UNSET
    error_code: str | UnsetType = UNSET
    kind: Capability = "text-gen"


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v2/queue`: running jobs, then waiting ones in the order they are served, then those that ended lately.

    `jobs` is cut at the limit that was asked for, for each of the three; the counts are of all. `time_ms` is the
    orchestrator's clock; `finished_per_s` what it measured over the last minutes.
    """

    time_ms: int
    waiting: dict[Priority, int]
    running: int
    finished_per_s: float
    jobs: list[LiveJob]


class Purge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v2/tasks/purge`: which jobs to erase. Only ones that have ended ever are."""

    older_than_ms: Annotated[int, Meta(ge=0, le=MAX_AGE_MS, description="Since they ended")]
    statuses: Annotated[list[FinalState], Meta(min_length=1, max_length=3)] = msgspec.field(
        default_factory=lambda: ["completed", "failed", "cancelled"]
    )
    outputs_only: Annotated[bool, Meta(description="Erase their texts alone, and keep their records")] = False
    dry_run: Annotated[bool, Meta(description="Erase nothing, count what would be erased")] = False


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased, or would be: jobs by how they ended, and those among them whose text was still kept.

    `more` says that one call did not do it all, so that it never takes long: ask again.
    """

    jobs: dict[FinalState, int]
    outputs: int
    more: bool = False
