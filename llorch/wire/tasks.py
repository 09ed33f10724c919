"""Bodies of the client API: submitting a job and reading what is known about it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llorch.wire.codec import FieldProblem, FieldProblems

MAX_SEED = 2**64 - 1
DEFAULT_MAX_TOKENS = 512
DEFAULT_TEMPERATURE = 0.7
DEFAULT_TIMEOUT_MS = 300_000
MAX_TIMEOUT_MS = 1_800_000

Priority = Literal["interactive", "batch"]
OnDisconnect = Literal["continue", "cancel"]
JobState = Literal["queued", "dispatched", "running", "cancelling", "completed", "failed", "cancelled"]
ONE_OF_PROMPT_AND_MESSAGES: Mapping[str, object] = {"oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}]}
MAX_KEEP_ALIVE_S = 30 * 86_400
UNITS_S: Mapping[str, int] = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
KeepAlive = (
    Annotated[float, Meta(ge=-1, le=MAX_KEEP_ALIVE_S, description="Seconds; 0 is not at all, -1 for ever")]
    | Annotated[
        str, Meta(pattern=r"^(-1|\d{1,7}([.]\d{1,3})?[smhd]?)$(?!\n)", description="a length of time such as 90s or 5m")
    ]
)
"""How long the worker of a job is kept once it is idle."""
Stop = Annotated[str, Meta(min_length=1, max_length=100)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation; the model's own chat template joins them."""

    role: Literal["system", "user", "assistant"]
    content: str


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen. Neutral values leave the model's own distribution alone."""

    temperature: Annotated[float, Meta(ge=0, le=2, description="0 always takes the likeliest token")] = (
        DEFAULT_TEMPERATURE
    )
    top_p: Annotated[float, Meta(ge=0, le=1, description="Nucleus sampling; 1 is off")] = 1.0
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Only the k likeliest tokens; 0 is off")] = 0
    min_p: Annotated[float, Meta(ge=0, le=1, description="Least probability relative to the likeliest; 0 is off")] = 0.0
    repetition_penalty: Annotated[
        float, Meta(ge=0, le=2, description="Divides the scores of tokens seen lately; 0 and 1 are off")
    ] = 1.0
    stop: Annotated[list[Stop], Meta(max_length=4, description="Texts that end the output and are not part of it")] = (
        msgspec.field(default_factory=list)
    )


class SubmitTask(Sampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request for inference: exactly one of `prompt` and `messages`."""

    extra_json_schema: ClassVar[Mapping[str, object]] = ONE_OF_PROMPT_AND_MESSAGES

    model: Annotated[str, Meta(min_length=1, max_length=1024, description="An alias or a model reference")]
    prompt: Annotated[str, Meta(min_length=1, description="Given to the model as it is")] | UnsetType = UNSET
    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)] | UnsetType = UNSET
    max_tokens: (
        Annotated[int, Meta(ge=1, le=2**31 - 1, description="Default 512, or what the context has room for")]
        | UnsetType
    ) = UNSET
    seed: (
        Annotated[
            int,
            Meta(ge=0, description="Drawn and reported when absent", extra_json_schema={"maximum": MAX_SEED}),
        ]
        | UnsetType
    ) = UNSET
    priority: Priority = "interactive"
    session_id: (
        Annotated[
            str,
            Meta(
                min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$(?!\n)", description="printable ASCII, no spaces"
            ),
        ]
        | UnsetType
    ) = UNSET
    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS, description="From admission to the end")] = (
        DEFAULT_TIMEOUT_MS
    )
    on_disconnect: OnDisconnect = "continue"
    keep_alive: KeepAlive | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Check what spans fields."""
        problems: list[FieldProblem] = []
        if (self.prompt is UNSET) == (self.messages is UNSET):
            problems.append(FieldProblem("prompt", "exactly one of prompt and messages is required", ("messages",)))
        if self.seed is not UNSET and self.seed > MAX_SEED:
            problems.append(FieldProblem("seed", f"expected `int` <= {MAX_SEED}"))
        if self.keep_alive is not UNSET and keep_alive_s(self.keep_alive) > MAX_KEEP_ALIVE_S:
            problems.append(FieldProblem("keep_alive", f"expected at most {MAX_KEEP_ALIVE_S // UNITS_S['d']}d"))
        if problems:
            raise FieldProblems(*problems)


def keep_alive_s(value: KeepAlive) -> float:
    """Return in seconds how long an idle worker is kept; below 0 is for ever."""
    if isinstance(value, str) and value[-1] in UNITS_S:
        return float(value[:-1]) * UNITS_S[value[-1]]
    return float(value)


class Accepted(msgspec.Struct, frozen=True):
    """The answer to a submission: the job is on disk."""

    job_id: str
    status: JobState
    queue_position: int
    seed: int
    events_url: str
    model_ref: str


class Breakdown(msgspec.Struct, frozen=True):
    """What the time from a job's submission to its first token was spent on, in milliseconds; the sum is that time.

    `decide_ms` ended when a pool was asked for the model's file or for a worker, or when the job went to a worker that
    was there; `fetch_ms` is the download; `spawn_ms` the worker's process until it begins to load; `load_ms` the model;
    `dispatch_ms` from the ready worker to the job's turn; `prefill_ms` the prompt and the first token.
    """

    decide_ms: int = 0
    fetch_ms: int = 0
    spawn_ms: int = 0
    load_ms: int = 0
    dispatch_ms: int = 0
    prefill_ms: int = 0


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """When what happened, in Unix milliseconds; absent until it has. `breakdown` is not in lists of jobs."""

    submitted_ms: int
    deadline_ms: int
    dispatched_ms: int | UnsetType = UNSET
    started_ms: int | UnsetType = UNSET
    first_token_ms: int | UnsetType = UNSET
    finished_ms: int | UnsetType = UNSET
    breakdown: Breakdown | UnsetType = UNSET


class JobError(msgspec.Struct, frozen=True):
    """Why a job ended without its output."""

    code: str
    message: str
    retriable: bool


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try of a job on one worker."""

    number: int
    worker_id: str
    pool_id: str
    dispatched_ms: int
    ended_ms: int | UnsetType = UNSET
    outcome: str | UnsetType = UNSET


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about a job, but for its prompt and output."""

    job_id: str
    status: JobState
    model: str
    model_ref: str
    priority: Priority
    seed: int
    max_tokens: int
    timings: Timings
    attempts: int
    on_disconnect: OnDisconnect
    correlation_id: str
    events_url: str
    prompt_sha256: str
    queue_position: int | UnsetType = UNSET
    session_id: str | UnsetType = UNSET
    worker_id: str | UnsetType = UNSET
    pool_id: str | UnsetType = UNSET
    engine: str | UnsetType = UNSET
    tokens_in: int | UnsetType = UNSET
    tokens_out: int | UnsetType = UNSET
    stop_reason: str | UnsetType = UNSET
    output_sha256: str | UnsetType = UNSET
    error: JobError | UnsetType = UNSET
    attempt_log: list[Attempt] | UnsetType = UNSET


class TaskPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of jobs, newest first; pass `next_cursor` as `cursor` for the page after it."""

    tasks: list[Task]
    next_cursor: str | UnsetType = UNSET


class CancelReply(msgspec.Struct, frozen=True):
    """Where a cancelled job stands: `cancelling`, or the final state it already had."""

    job_id: str
    status: JobState


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job is where it is, in words and as data."""

    job_id: str
    status: JobState
    reason: str
    text: str
    data: dict[str, Any] = msgspec.field(default_factory=dict)
