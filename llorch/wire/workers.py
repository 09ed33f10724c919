"""What a worker is asked and what it answers. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llorch.wire.codec import FieldProblem, FieldProblems
from llorch.wire.conversation import Message, Tool
from llorch.wire.embedding import ONE_SHAPE, Inputs, Rerank, Truncate
from llorch.wire.pools import Backend, Engine, Id, WorkerState
from llorch.wire.protocol import FIRST
from llorch.wire.tasks import MAX_SEED, SubmitTask, Talk, calls_tools, talk_problems

ONE_OF_PROMPT_AND_MESSAGES: Mapping[str, object] = {"oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}]}
MemoryArchitecture = Literal["vram-only", "unified", "system"]


class Execute(Talk, frozen=True, kw_only=True):
    """`POST /execute`: run one attempt of a job; the answer is its event stream.

    `first_token` is the index that the first new token event gets, so that event ids go on where an earlier attempt
    stopped. `continue_text` is the text that attempt had put out, `continue_ids` its tokens as the model chose them
    and `continue_held` the text of them that was not put out yet (see `WorkerToken`). They go behind the prompt: the
    ids where there are any, else the text. Of `input` and `rerank`, those before `first_token` have been done.
    """

    extra_json_schema: ClassVar[Mapping[str, object]] = ONE_SHAPE

    job_id: Id
    attempt: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 1
    prompt: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    messages: Annotated[list[Message], Meta(min_length=1)] | UnsetType = UNSET
    input: Inputs | UnsetType = UNSET
    rerank: Rerank | UnsetType = UNSET
    truncate: Truncate = False
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | UnsetType = UNSET
    seed: Annotated[int, Meta(ge=0, extra_json_schema={"maximum": MAX_SEED})] = 0
    first_token: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    continue_text: str = ""
    continue_ids: list[Annotated[int, Meta(ge=0, le=2**31 - 1)]] = msgspec.field(default_factory=list)
    continue_held: str = ""

    def __post_init__(self) -> None:
        """Check what spans fields, and what a type cannot: msgspec's own limit ends at 63 bits."""
        problems = talk_problems(self, has_messages=self.messages is not UNSET)
        if self.seed > MAX_SEED:
            problems.append(FieldProblem("seed", f"expected `int` <= {MAX_SEED}"))
        if problems:
            raise FieldProblems(*problems)


class CancelJob(msgspec.Struct, frozen=True):
    """`POST /cancel`; with an `attempt`, any other attempt of that job goes on."""

    job_id: Id
    attempt: Annotated[int, Meta(ge=1, le=2**31 - 1)] | UnsetType = UNSET


class CancelAccepted(msgspec.Struct, frozen=True):
    """The answer to a cancellation; `known` is false when there was nothing to cancel."""

    job_id: str
    known: bool


class CountTokens(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /count`: how many tokens would this prompt be?"""

    extra_json_schema: ClassVar[Mapping[str, object]] = ONE_OF_PROMPT_AND_MESSAGES

    prompt: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    messages: Annotated[list[Message], Meta(min_length=1)] | UnsetType = UNSET
    tools: list[Tool] | UnsetType = UNSET


def counting(task: SubmitTask) -> CountTokens:
    """Return the question how many tokens the prompt of a job is."""
    return CountTokens(prompt=task.prompt, messages=task.messages, tools=task.tools if calls_tools(task) else UNSET)


class TokenCount(msgspec.Struct, frozen=True):
    """The number of prompt tokens, template and special tokens included, and the context of one slot.

    Not `exact` is an estimate: the engine cannot count them.
    """

    tokens: int
    context_length: int
    exact: bool = True


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v2/internal/workers/ready` at the pool: the model is loaded and the worker takes jobs."""

    worker_id: Id
    model_ref: str
    uri: str
    memory_bytes: int
    memory_architecture: MemoryArchitecture
    backend: Backend
    engine: Engine
    capabilities: list[str]
    slots: int
    context_length: int
    load_ms: int = 0
    protocol: int = FIRST


class WorkerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /health` of a worker, from cached state."""

    status: WorkerState
    worker_id: str
    model: str
    model_ref: str
    resident: bool
    progress: float
    quant_kind: str
    vocab_size: int
    context_length: int
    memory_bytes: int
    slots: int
    slots_busy: int
    tokens_per_second: float
    uptime_s: float
    capabilities: list[str]
    protocol: int
    engine: str
    backend: Backend
    load_ms: int = 0
    error: str | UnsetType = UNSET


class ShuttingDown(msgspec.Struct, frozen=True):
    """The answer to `POST /shutdown`."""

    status: WorkerState
