"""Bodies of the client API: submitting a job and reading what is known about it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llorch.wire.codec import FieldProblem, FieldProblems
from llorch.wire.conversation import MAX_TOOLS, Message, NamedTool, ResponseFormat, Tool, ToolChoice, tool_problems
from llorch.wire.embedding import ONE_SHAPE, Capability, Inputs, Rerank, Truncate, shape_problems

MAX_SEED = 2**64 - 1
DEFAULT_MAX_TOKENS = 512
DEFAULT_TEMPERATURE = 0.7
DEFAULT_TIMEOUT_MS = 300_000
MAX_TIMEOUT_MS = 1_800_000
MAX_TOP_LOGPROBS = 20
MAX_STOPS = 4
MAX_CLIENT_STOPS = 64
"""Of the APIs whose clients send more than their makers allow."""
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
IDEMPOTENCY_KEY_EXPECTED = "expected 1 to 255 printable ASCII characters, no spaces"

Priority = Literal["interactive", "batch"]
OnDisconnect = Literal["continue", "cancel"]
JobState = Literal["queued", "dispatched", "running", "cancelling", "completed", "failed", "cancelled"]
MAX_KEEP_ALIVE_S = 30 * 86_400
UNITS_S: Mapping[str, int] = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
KeepAlive = (
    Annotated[float, Meta(ge=-1, le=MAX_KEEP_ALIVE_S, description="Seconds; 0 is not at all, -1 for ever")]
    | Annotated[
        str, Meta(pattern=r"^(-1|\d{1,7}([.]\d{1,3})?[smhd]?)$(?!\n)", description="a length of time such as 90s or 5m")
    ]
)
"""How long the worker of a job is kept once it is idle."""
MAX_LOGIT_BIAS = 1024
Stop = Annotated[str, Meta(min_length=1, max_length=100)]
TokenId = Annotated[str, Meta(pattern=r"^[0-9]{1,9}$(?!\n)", description="the id of a token, as a string of digits")]
LogitBias = Annotated[
    dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]],
    Meta(max_length=MAX_LOGIT_BIAS, description="Added to the scores of tokens, by the model's own token ids"),
]


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
    frequency_penalty: Annotated[
        float, Meta(ge=-2, le=2, description="Subtracted from a token's score for each time it was seen lately")
    ] = 0.0
    presence_penalty: Annotated[
        float, Meta(ge=-2, le=2, description="Subtracted from the scores of tokens that were seen lately")
    ] = 0.0
    logit_bias: LogitBias | UnsetType = UNSET
    stop: Annotated[list[Stop], Meta(max_length=MAX_CLIENT_STOPS)] = msgspec.field(default_factory=list)
    response_format: ResponseFormat | UnsetType = UNSET
    logprobs: Annotated[bool, Meta(description="Tell how likely each token was")] | UnsetType = UNSET
    top_logprobs: (
        Annotated[
            int, Meta(ge=0, le=MAX_TOP_LOGPROBS, description="With `logprobs`: so many likeliest tokens in its place")
        ]
        | UnsetType
    ) = UNSET


class Talk(Sampling, frozen=True, kw_only=True):
    """A conversation's tools, beside how its next tokens are chosen."""

    tools: (
        Annotated[list[Tool], Meta(max_length=MAX_TOOLS, description="What the model may ask to be called")] | UnsetType
    ) = UNSET
    tool_choice: ToolChoice | UnsetType = UNSET
    parallel_tool_calls: Annotated[bool, Meta(description="Several calls in one answer")] | UnsetType = UNSET
    reasoning_format: (
        Annotated[
            Literal["none", "auto"],
            Meta(description="auto: what the model thinks before it answers is told apart from the answer"),
        ]
        | UnsetType
    ) = UNSET


def talk_problems(talk: Talk, *, has_messages: bool) -> list[FieldProblem]:
    """Return what is wrong between the fields of a conversation."""
    tools = [] if talk.tools is UNSET else talk.tools
    names = [tool.function.name for tool in tools]
    choice = "auto" if talk.tool_choice is UNSET else talk.tool_choice
    problems: list[FieldProblem] = []
    for number, tool in enumerate(tools):
        problems += tool_problems(tool, f"tools[{number}]")
    if talk.reasoning_format == "auto" and not has_messages:
        problems.append(FieldProblem("reasoning_format", "a prompt as it is has no place for it; give messages"))
    if tools and choice != "none" and talk.response_format is not UNSET and talk.response_format.type != "text":
        problems.append(FieldProblem("response_format", "not together with tools"))
    if tools and not has_messages:
        problems.append(FieldProblem("tools", "a prompt as it is has no place for tools; give messages"))
    if len(set(names)) < len(names):
        problems.append(FieldProblem("tools", "two functions have the same name"))
    if choice not in ("none", "auto") and not tools:
        problems.append(FieldProblem("tool_choice", "there are no tools to choose from"))
    elif isinstance(choice, NamedTool) and choice.function.name not in names:
        problems.append(FieldProblem("tool_choice", "no tool has that name"))
    if talk.top_logprobs is not UNSET and talk.logprobs is not True:
        problems.append(FieldProblem("top_logprobs", "needs logprobs"))
    if talk.logprobs is True and (talk.reasoning_format == "auto" or (tools and choice != "none")):
        problems.append(FieldProblem("logprobs", "not together with tools or reasoning_format"))
    return problems


def shared(talk: Talk) -> dict[str, Any]:
    """Return the fields that a submission and its execution have in common, by name."""
    return {field: getattr(talk, field) for field in Talk.__struct_fields__}


def changed(talk: Talk) -> list[str]:
    """Return the fields that are not as they are by default."""
    return [field for field in Talk.__struct_fields__ if getattr(talk, field) != getattr(_PLAIN, field)]


_PLAIN = Talk()


def can_go_on(talk: Talk) -> bool:
    """Tell whether another worker can go on behind what one has put out.

    It cannot where the engine chooses by rules whose state is not in the text that was put out: inside a JSON schema,
    in the middle of a call, or of a thought.
    """
    formed = talk.response_format is not UNSET and talk.response_format.type != "text"
    return not formed and talk.reasoning_format != "auto" and not calls_tools(talk)


def calls_tools(talk: Talk) -> bool:
    """Tell whether the answer may be calls of tools."""
    return bool(talk.tools) and talk.tool_choice != "none"


class SubmitTask(Talk, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request for inference: exactly one of `prompt`, `messages`, `input` and `rerank`."""

    extra_json_schema: ClassVar[Mapping[str, object]] = ONE_SHAPE

    model: Annotated[str, Meta(min_length=1, max_length=1024, description="An alias or a model reference")]
    prompt: Annotated[str, Meta(min_length=1, description="Given to the model as it is")] | UnsetType = UNSET
    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)] | UnsetType = UNSET
    input: Inputs | UnsetType = UNSET
    rerank: Rerank | UnsetType = UNSET
    truncate: Truncate = False
    stop: Annotated[
        list[Stop], Meta(max_length=MAX_STOPS, description="Texts that end the output and are not part of it")
    ] = msgspec.field(default_factory=list)
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
        given = [field for field in ("max_tokens", "seed") if getattr(self, field) is not UNSET]
        problems = shape_problems(self, [*changed(self), *given])
        if self.seed is not UNSET and self.seed > MAX_SEED:
            problems.append(FieldProblem("seed", f"expected `int` <= {MAX_SEED}"))
        if self.keep_alive is not UNSET and keep_alive_s(self.keep_alive) > MAX_KEEP_ALIVE_S:
            problems.append(FieldProblem("keep_alive", f"expected at most {MAX_KEEP_ALIVE_S // UNITS_S['d']}d"))
        problems += talk_problems(self, has_messages=self.messages is not UNSET)
        if problems:
            raise FieldProblems(*problems)


class ClientTask(SubmitTask, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that came by another API than llorch's own, which may have more of what does no harm; any on disk."""

    stop: Annotated[list[Stop], Meta(max_length=MAX_CLIENT_STOPS)] = msgspec.field(default_factory=list)


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
    kind: Capability = "text-gen"
    queue_position: int | UnsetType = UNSET
    session_id: str | UnsetType = UNSET
    worker_id: str | UnsetType = UNSET
    pool_id: str | UnsetType = UNSET
    engine: str | UnsetType = UNSET
    tokens_in: int | UnsetType = UNSET
    tokens_cached: int | UnsetType = UNSET
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
