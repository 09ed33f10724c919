"""Ollama's API in terms of jobs: what a request asks for, and what a job's events are in its words. Pure.

Where Ollama's defaults differ from llorch's, a client of Ollama's API gets Ollama's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import msgspec
from msgspec import UNSET, UnsetType, structs

from llorch.errors import LlorchError
from llorch.wire.codec import FieldProblem, encode, invalid
from llorch.wire.conversation import (
    Message,
    ResponseFormat,
    SchemaFormat,
    TokenLogprob,
    Tool,
    ToolCall,
)
from llorch.wire.events import End, Token
from llorch.wire.json_schema import schema_problems
from llorch.wire.ollama import (
    Asked,
    Call,
    Called,
    Chance,
    ChatLine,
    Done,
    DoneReason,
    EmbedRequest,
    GenerateLine,
    Likely,
    Offered,
    OldEmbedRequest,
    OllamaChat,
    OllamaError,
    OllamaGenerate,
    Options,
    Said,
)
from llorch.wire.tasks import MAX_KEEP_ALIVE_S, MAX_SEED, ClientTask, SubmitTask
from roles.orchestrator.dialects.answer import Answer
from roles.orchestrator.dialects.ollama_turns import conversation, seen
from roles.orchestrator.dialects.openai import OF_A_CLIENT, found, limited, offered, submission
from roles.orchestrator.dialects.too_long import ollama_words

NS_PER_MS = 1_000_000
DEFAULTS = Options(temperature=0.8, top_p=0.9, top_k=40, min_p=0.0, repeat_penalty=1.0)
"""Source: `DefaultOptions` in Ollama's api/types.go."""
_REASONS: dict[str, DoneReason] = {"eos": "stop", "stop_sequence": "stop", "max_tokens": "length"}
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SPAN = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_DURATION = re.compile(rf"[+-]?(?:{_SPAN.pattern})+")


def chat_task(asked: OllamaChat, name: str, *, room: int | None) -> SubmitTask:
    """Return the job that a chat asks for; without messages, one that has the model loaded.

    Args:
        asked: The request.
        name: The model as llorch calls it.
        room: The model's context, if it is known.

    Raises:
        InvalidRequest: It asks for what llorch cannot do; every such field is named.
    """
    problems: list[FieldProblem] = []
    messages = conversation(asked.messages or [], problems)
    tools = [found(problems, f"tools[{number}]", _tool, tool) for number, tool in enumerate(asked.tools or [])]
    formed = _formed(asked, problems)
    if problems:
        raise invalid(problems)
    if not messages:
        return loading(name, keeping(asked))
    return _task(asked, name, {"messages": messages, "tools": tools or UNSET, "response_format": formed}, room=room)


def generate_task(asked: OllamaGenerate, name: str, *, room: int | None) -> SubmitTask:
    """Return the job that a completion asks for: a conversation of one turn, unless it is `raw`; see `chat_task`."""
    refused = ("suffix", "template", "context")
    problems = [FieldProblem(field, "not supported") for field in refused if getattr(asked, field)]
    formed = _formed(asked, problems)
    said = found(problems, "images", partial(seen, asked.prompt or ""), asked.images or ())
    if asked.raw and asked.images:
        problems.append(FieldProblem("images", "a raw prompt has no place for them"))
    if problems:
        raise invalid(problems)
    if not asked.prompt and not asked.images:
        return loading(name, keeping(asked))
    if asked.raw:
        return _task(asked, name, {"prompt": asked.prompt, "response_format": formed}, room=room)
    system = [Message("system", asked.system)] if asked.system else []
    messages = [*system, Message("user", said)]
    return _task(asked, name, {"messages": messages, "response_format": formed}, room=room)


def loading(name: str, keep_alive: float | UnsetType) -> SubmitTask:
    """Return the smallest job for which a model must be loaded; the worker is kept so many seconds behind it."""
    return ClientTask(model=name, prompt=".", max_tokens=1, temperature=0.0, keep_alive=keep_alive, **OF_A_CLIENT)


def keeping(asked: Asked | EmbedRequest | OldEmbedRequest) -> float | UnsetType:
    """Return how long a request wants its worker kept, in seconds; -1 is for ever."""
    kept = kept_s(asked.keep_alive)
    return UNSET if kept is None else min(float(MAX_KEEP_ALIVE_S), kept) if kept >= 0 else -1.0


def kept_s(keep_alive: float | str | None) -> float | None:
    """Return how long a client wants a model kept after its request, in seconds; below 0 is for ever.

    Raises:
        InvalidRequest: It is no duration.
    """
    if not isinstance(keep_alive, str) or not keep_alive:
        return None if keep_alive is None or keep_alive == "" else float(keep_alive)
    if re.fullmatch(r"[+-]?\d{1,9}", keep_alive):
        return float(keep_alive)
    if len(keep_alive) > 64 or not _DURATION.fullmatch(keep_alive):
        raise invalid([FieldProblem("keep_alive", "expected seconds, or a duration such as 5m, 1h30m or -1")])
    seconds = sum(float(count) * _UNITS_S[unit] for count, unit in _SPAN.findall(keep_alive))
    return -seconds if keep_alive.startswith("-") else seconds


@dataclass(frozen=True, slots=True)
class Answered:
    """What a line holds, or a whole answer."""

    text: str = ""
    thinking: str = ""
    calls: Sequence[ToolCall] = ()
    logprobs: Sequence[TokenLogprob] = ()


def answered(answer: Answer) -> Answered:
    """Return what a job has put out."""
    return Answered(answer.text, answer.reasoning, answer.tool_calls, answer.logprobs)


class Lines:
    """Writes one answer, in lines or whole.

    Args:
        name: The model, as it was asked for.
        chat: Whether it is a chat.
    """

    def __init__(self, name: str, *, chat: bool) -> None:
        self._name = name
        self._chat = chat

    def piece(self, token: Token, *, now_ms: int) -> bytes:
        """Add to the answer; empty where there is nothing to add, for calls of tools come whole."""
        thought = "" if token.reasoning_content is UNSET else token.reasoning_content
        likely = () if token.logprobs is UNSET else token.logprobs
        said = Answered(token.t, thought, logprobs=likely)
        return _line(self._body(said, None, now_ms)) if token.t or thought or likely else b""

    def alive(self, *, now_ms: int) -> bytes:
        """Give a sign of life."""
        return _line(self._body(Answered(), None, now_ms))

    def calls(self, calls: Sequence[ToolCall], *, now_ms: int) -> bytes:
        """Add all calls of tools to the answer, if there are any."""
        return _line(self._body(Answered(calls=calls), None, now_ms)) if calls else b""

    def last(self, done: Done, *, now_ms: int) -> bytes:
        """End the answer."""
        return _line(self._body(Answered(), done, now_ms))

    def whole(self, answer: Answered, done: Done, *, now_ms: int) -> ChatLine | GenerateLine:
        """Return the whole answer."""
        return self._body(answer, done, now_ms)

    def _body(self, answer: Answered, done: Done | None, now_ms: int) -> ChatLine | GenerateLine:
        ended = structs.asdict(done) if done is not None else {}
        at: dict[str, object] = {"model": self._name, "created_at": rfc3339(now_ms), "done": done is not None}
        at["logprobs"] = _likely(answer.logprobs) or UNSET
        thinking = answer.thinking or UNSET
        if self._chat:
            said = Said(answer.text, thinking=thinking, tool_calls=_whole_calls(answer.calls) or UNSET)
            return ChatLine(message=said, **at, **ended)  # type: ignore[arg-type]  # the fields of Line
        return GenerateLine(response=answer.text, thinking=thinking, **at, **ended)  # type: ignore[arg-type]


def done(end: End, *, total_ns: int) -> Done:
    """Return what a job's end is in Ollama's words. To wait for a worker is to load, for those who know one host only.

    Args:
        end: The job's last event.
        total_ns: How long the whole took.
    """
    prefill_ms = max(0, end.first_token_ms - end.queue_ms)
    return Done(
        done_reason=_REASONS[end.stop_reason],
        total_duration=total_ns,
        load_duration=end.queue_ms * NS_PER_MS,
        prompt_eval_count=end.tokens_in,
        prompt_eval_duration=prefill_ms * NS_PER_MS,
        eval_count=end.tokens_out,
        eval_duration=end.decode_time_ms * NS_PER_MS,
    )


LOADED = Done(done_reason="load")
"""The answer to who wanted nothing said."""
UNLOADED = Done(done_reason="unload")
"""The answer to who wanted nothing said, and nothing kept."""


def error_reply(error: LlorchError, _correlation_id: str) -> OllamaError:
    """Return an error in Ollama's words."""
    return OllamaError(ollama_words(error))


def error_line(error: LlorchError) -> bytes:
    """Return an error that comes behind the first line, as clients of streams expect it."""
    return _line(OllamaError(ollama_words(error)))


def rfc3339(time_ms: int) -> str:
    """Return a time as Ollama tells it."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(body: object) -> bytes:
    return encode(body) + b"\n"


def _task(asked: Asked, name: str, fields: dict[str, object], *, room: int | None) -> SubmitTask:
    given = asked.options or Options()
    names = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty")
    chosen = {name: getattr(DEFAULTS if getattr(given, name) is None else given, name) for name in names}
    wanted = given.num_predict if given.num_predict is not None and given.num_predict > 0 else None
    sampled = {
        "model": name,
        "max_tokens": limited(wanted, room=room),
        "seed": UNSET if given.seed is None or given.seed == -1 else given.seed & MAX_SEED,
        "temperature": chosen["temperature"],
        "top_p": chosen["top_p"],
        "top_k": max(0, chosen["top_k"]),
        "min_p": chosen["min_p"],
        "repetition_penalty": chosen["repeat_penalty"],
        "frequency_penalty": given.frequency_penalty or 0.0,
        "presence_penalty": given.presence_penalty or 0.0,
        "stop": [given.stop] if isinstance(given.stop, str) else given.stop or [],
        "reasoning_format": "auto" if asked.think else UNSET,
        "logprobs": True if asked.logprobs else UNSET,
        "top_logprobs": (asked.top_logprobs or UNSET) if asked.logprobs else UNSET,
        "keep_alive": keeping(asked),
    }
    return submission(sampled | fields)


def _formed(asked: Asked, problems: list[FieldProblem]) -> ResponseFormat | UnsetType:
    """Return the form that the answer must have."""
    if not asked.format:
        return UNSET
    if isinstance(asked.format, str):
        return ResponseFormat("json_object")
    if wrong := schema_problems(asked.format, "format"):
        problems += wrong
        return UNSET
    return ResponseFormat("json_schema", SchemaFormat(asked.format))


def _tool(tool: Offered) -> Tool:
    told = tool.function
    return offered(told.name, told.description, told.parameters, strict=None)


def _whole_calls(calls: Sequence[ToolCall]) -> list[Call]:
    """Return calls with their arguments as objects; what the end of the text has cut off is no call."""
    told: list[Call] = []
    for call in calls:
        with suppress(msgspec.DecodeError):
            arguments = msgspec.json.decode(call.function.arguments or "{}", type=dict[str, object])
            told.append(Call(Called(call.function.name, arguments)))
    return told


def _likely(found: Sequence[TokenLogprob]) -> list[Likely]:
    return [
        Likely(
            one.token,
            one.logprob,
            one.bytes,
            [Chance(other.token, other.logprob, other.bytes) for other in one.top_logprobs] or UNSET,
        )
        for one in found
    ]
