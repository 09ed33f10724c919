"""What the store takes and gives: frozen values, no SQL."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from llorch.job import JobId, State
from llorch.wire.embedding import Capability
from llorch.wire.tasks import OnDisconnect, Priority
from roles.orchestrator.scheduler.startup import Startup


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job as it is accepted. `request` is the body to be given to a worker later."""

    seq: int
    id: JobId
    model: str
    model_ref: str
    request: bytes
    prompt_sha256: str
    priority: Priority
    session_id: str | None
    owner: str
    correlation_id: str
    on_disconnect: OnDisconnect
    seed: int
    max_tokens: int
    tag: int
    idempotency_key: str | None
    request_sha256: str
    submitted_ms: int
    deadline_ms: int
    kind: Capability = "text-gen"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as it is on disk, without its request and its output."""

    seq: int
    id: JobId
    state: State
    model: str
    model_ref: str
    prompt_sha256: str
    priority: Priority
    session_id: str | None
    owner: str
    correlation_id: str
    on_disconnect: OnDisconnect
    seed: int
    max_tokens: int
    tag: int
    idempotency_key: str | None
    request_sha256: str
    submitted_ms: int
    deadline_ms: int
    not_before_ms: int
    dispatched_ms: int | None
    started_ms: int | None
    first_token_ms: int | None
    finished_ms: int | None
    attempt: int
    worker_id: str | None
    pool_id: str | None
    engine: str | None
    started_event: int | None
    final_event: int | None
    tokens_in: int | None
    tokens_cached: int | None
    tokens_out: int | None
    pieces: int
    decode_ms: int | None
    stop_reason: str | None
    output_sha256: str | None
    error_code: str | None
    error_message: str | None
    error_retriable: bool | None
    kind: Capability = "text-gen"
    error_details: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One try of a job on one worker."""

    number: int
    worker_id: str
    pool_id: str
    dispatched_ms: int
    ended_ms: int | None
    outcome: str | None
    started: bytes | None = None
    """Its `started` event as readers got it; None where it did not begin."""
    asked_ms: int | None = None
    fetched_ms: int | None = None
    loading_ms: int | None = None
    ready_ms: int | None = None

    @property
    def startup(self) -> Startup | None:
        """How its worker came to be, if that was while the job waited."""
        marks = (self.asked_ms, self.fetched_ms, self.loading_ms, self.ready_ms)
        known = [mark for mark in marks if mark is not None]
        return Startup(*known) if len(known) == len(marks) else None


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where an attempt runs, and behind how many tokens of earlier ones: what it takes to find it again."""

    attempt: int
    worker_id: str
    pool_id: str
    url: str
    token: str = field(repr=False)
    tokens_before: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Token events as readers get them, the model's tokens behind them, and text of those that is in no event yet.

    `ids` are 32-bit integers; None where the engine does not tell them.
    """

    first: int
    count: int
    events: bytes
    ids: bytes | None = None
    held: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """How many token events a stored output has, and all the model's tokens behind them, if they are known."""

    pieces: int
    ids: array[int] | None
    held: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job ended: what its last row and its terminal event say."""

    finished_ms: int
    event_serial: int
    tokens_in: int | None = None
    tokens_cached: int | None = None
    tokens_out: int | None = None
    pieces: int = 0
    decode_ms: int | None = None
    stop_reason: str | None = None
    first_token_ms: int | None = None
    output_sha256: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_retriable: bool | None = None
    error_details: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which jobs to list: newest first, those before `before_seq`."""

    limit: int
    before_seq: int | None = None
    state: State | None = None
    model: str | None = None
    priority: Priority | None = None
    session_id: str | None = None
    owner: str | None = None
