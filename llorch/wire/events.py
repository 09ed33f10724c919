"""What a job's event stream carries, from worker to orchestrator to reader. No I/O.

An event id is `<tokens>.<serial>`. `tokens` counts the token events up to and including this one, so the i-th
token (from 0) is always `<i+1>.0`: it keeps its id across attempts, workers and restarts. Every other event has a
serial that grows with time and is never used twice for a job. Ids are ordered as pairs of integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llorch.errors import InvalidRequest
from llorch.wire.conversation import TokenLogprob, ToolCallDelta
from llorch.wire.embedding import Capability

StopReason = Literal["eos", "max_tokens", "stop_sequence"]
MAX_COUNT = 2**53 - 1
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
"""A number of tokens or of milliseconds that another process tells; the database and JavaScript can hold it."""
ModelToken = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class EventId(NamedTuple):
    """The position of an event in its job's stream; compares in stream order."""

    tokens: int
    serial: int

    def __str__(self) -> str:
        """Return the form that crosses the wire."""
        return f"{self.tokens}.{self.serial}"


ID_SCHEMA: Mapping[str, object] = {"type": "string", "pattern": r"^([0-9]{1,18}([.][0-9]{1,18})?)?$"}
"""What `parse_event_id` reads, as documentation tells of it; empty is the beginning."""
START = EventId(0, -1)
"""Before the first event."""


def parse_event_id(text: str) -> EventId:
    """Read an id as given in `Last-Event-ID` or `?after=`; a bare number n means after the n-th token.

    Raises:
        InvalidRequest: It is neither.
    """
    tokens, dot, serial = text.partition(".")
    digits = [tokens, serial] if dot else [tokens]
    if not all(part.isascii() and part.isdigit() and len(part) <= 18 for part in digits):
        problem = "expected an event id of this job, such as 12.0, or a number of tokens"
        raise InvalidRequest(
            f"the request is not valid: after: {problem}", details={"fields": [{"field": "after", "problem": problem}]}
        )
    return EventId(int(tokens), int(serial) if dot else 0)


class Queued(msgspec.Struct, frozen=True):
    """`queued`: waiting; sent again when the position changed. `waiting_for` says what is missing."""

    job_id: str
    position: int
    correlation_id: str
    waiting_for: str | UnsetType = UNSET


class Loading(msgspec.Struct, frozen=True):
    """`loading`: the model this job waits for is being fetched or loaded."""

    stage: Literal["starting", "loading", "downloading"]
    percent: float
    worker_id: str
    pool_id: str


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """`started`: a worker has taken the job. Sent again, with a higher attempt, when another one takes over.

    `first_token` is the index of the first token event that comes from this attempt: above 0, it goes on behind what
    readers have. `exact` says that it does so from the model's own tokens; otherwise the text was tokenised anew.
    `tokens_in` counts the prompt. `kind` is absent for text; the token events of another one are whole lines.
    """

    job_id: str
    worker_id: str
    model_ref: str
    engine: str
    seed: int
    correlation_id: str
    attempt: int = 1
    first_token: int = 0
    exact: bool = True
    tokens_in: int = 0
    kind: Capability | UnsetType = UNSET


class Text(msgspec.Struct, frozen=True):
    """What every `token` event has."""

    i: int
    t: str


class WorkerText(Text, frozen=True):
    """A `WorkerToken` that is text and nothing else: the same on the wire, and faster to write."""

    ids: list[int]
    held: str


class Token(Text, frozen=True, kw_only=True):
    """`token`: one piece of the output; `i` counts the pieces from 0 without gaps, `t` is text of the answer.

    A piece of something else has an empty `t`: `reasoning_content` is what the model thinks before it answers,
    `tool_calls` are calls of tools as they come. `logprobs` are those of the tokens behind the text, if asked for.
    """

    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET
    logprobs: list[TokenLogprob] | UnsetType = UNSET

    @property
    def is_plain(self) -> bool:
        """Whether it is text and nothing else."""
        return self.tool_calls is self.logprobs is self.reasoning_content is UNSET


class WorkerToken(Token, frozen=True):
    """`token` as a worker sends it to the orchestrator, which keeps what readers do not need.

    `ids` are the model's tokens since the event before, up to the last one whose text is whole characters: with them
    another worker goes on exactly where this one was. `held` is text of them that is in no event yet, because it
    could be the beginning of a stop sequence; at a text's last event it can also be the sequence that ended it. An
    event that only shows what was held before has no ids; any other without ids is from an engine that tells none.
    """

    ids: list[ModelToken] = msgspec.field(default_factory=list)
    held: str = ""


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """`metrics`: how far prefill is, and how fast the worker decodes."""

    prefill_tokens: int | UnsetType = UNSET
    prefill_total: int | UnsetType = UNSET
    tokens_per_second: float | UnsetType = UNSET


class End(msgspec.Struct, frozen=True, kw_only=True):
    """`end`: the output is complete. Counts are in tokens, times in milliseconds.

    `tokens_cached` of the prompt did not need to be computed: an earlier job's prompt began alike.
    """

    tokens_in: int
    tokens_out: int
    stop_reason: StopReason
    queue_ms: int
    first_token_ms: int
    decode_time_ms: int
    tokens_cached: int = 0


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """`error`: the job ended without (all of) its output; `details` are the counts among those of the error."""

    code: str
    message: str
    retriable: bool
    details: dict[str, Count] | UnsetType = UNSET


def counts_of(details: Mapping[str, object] | None) -> dict[str, int] | UnsetType:
    """Return what of an error's details its job keeps: the counts, such as how long a prompt is and may be."""
    counts = {name: value for name, value in (details or {}).items() if type(value) is int and 0 <= value <= MAX_COUNT}
    return counts or UNSET


class WorkerStarted(msgspec.Struct, frozen=True, kw_only=True):
    """First event of a worker's own stream: the job has a slot and its prompt has been counted."""

    job_id: str
    attempt: Count
    tokens_in: Count
    max_tokens: Count
    engine: str


class WorkerEnd(msgspec.Struct, frozen=True, kw_only=True):
    """Last event of a worker's own stream when all went well."""

    tokens_in: Count
    tokens_out: Count
    stop_reason: StopReason
    prefill_ms: Count
    decode_ms: Count
    tokens_cached: Count = 0
