"""Ollama's API in terms of jobs: what a request asks for, and what a job's events are in its words. Pure.

Where Ollama's defaults differ from llorch's, a client of Ollama's API gets Ollama's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import UNSET, UnsetType, structs

from llorch.errors import LlorchError
from llorch.wire.codec import FieldProblem, encode, invalid
from llorch.wire.conversation import Message
from llorch.wire.events import End
from llorch.wire.ollama import (
    Asked,
    ChatLine,
    Done,
    DoneReason,
    GenerateLine,
    OllamaChat,
    OllamaError,
    OllamaGenerate,
    Options,
    Said,
    Turn,
)
from llorch.wire.tasks import MAX_KEEP_ALIVE_S, MAX_SEED, SubmitTask

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
    problems = _unsupported(asked)
    if asked.tools:
        problems.append(FieldProblem("tools", "not supported"))
    turns = asked.messages or []
    for number, turn in enumerate(turns):
        problems += [FieldProblem(f"messages[{number}]", problem) for problem in _foreign(turn)]
    if problems:
        raise invalid(problems)
    messages = [Message(turn.role, turn.content) for turn in turns]
    return _task(asked, name, messages, room=room) if messages else loading(name, keeping(asked))


def generate_task(asked: OllamaGenerate, name: str, *, room: int | None) -> SubmitTask:
    """Return the job that a completion asks for: a conversation of one turn, unless it is `raw`; see `chat_task`."""
    problems = _unsupported(asked)
    refused = ("suffix", "template", "context", "images")
    problems += [FieldProblem(field, "not supported") for field in refused if getattr(asked, field)]
    if problems:
        raise invalid(problems)
    if not asked.prompt:
        return loading(name, keeping(asked))
    if asked.raw:
        return _task(asked, name, asked.prompt, room=room)
    system = [Message("system", asked.system)] if asked.system else []
    return _task(asked, name, [*system, Message("user", asked.prompt)], room=room)


def loading(name: str, keep_alive: float | UnsetType) -> SubmitTask:
    """Return the smallest job for which a model must be loaded; the worker is kept so many seconds behind it."""
    return SubmitTask(
        model=name, prompt=".", max_tokens=1, temperature=0.0, on_disconnect="cancel", keep_alive=keep_alive
    )


def keeping(asked: Asked) -> float | UnsetType:
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


class Lines:
    """Writes one answer, in lines or whole.

    Args:
        name: The model, as it was asked for.
        chat: Whether it is a chat.
    """

    def __init__(self, name: str, *, chat: bool) -> None:
        self._name = name
        self._chat = chat

    def text(self, text: str, *, now_ms: int) -> bytes:
        """Add to the answer; an empty text is a sign of life."""
        return _line(self._body(text, None, now_ms))

    def last(self, done: Done, *, now_ms: int) -> bytes:
        """End the answer."""
        return _line(self._body("", done, now_ms))

    def whole(self, text: str, done: Done, *, now_ms: int) -> ChatLine | GenerateLine:
        """Return the whole answer."""
        return self._body(text, done, now_ms)

    def _body(self, text: str, done: Done | None, now_ms: int) -> ChatLine | GenerateLine:
        ended = structs.asdict(done) if done is not None else {}
        at = {"model": self._name, "created_at": rfc3339(now_ms), "done": done is not None}
        if self._chat:
            return ChatLine(message=Said(text), **at, **ended)  # type: ignore[arg-type]  # the fields of Line
        return GenerateLine(response=text, **at, **ended)  # type: ignore[arg-type]  # the fields of Line


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


def loaded(end: End, *, total_ns: int) -> Done:
    """Return what the end of a job is that only had its model loaded."""
    return Done(done_reason="load", total_duration=total_ns, load_duration=end.queue_ms * NS_PER_MS)


UNLOADED = Done(done_reason="unload")
"""The answer to who wanted nothing said, and nothing kept."""


def error_reply(error: LlorchError, _correlation_id: str) -> OllamaError:
    """Return an error in Ollama's words."""
    return OllamaError(error.message)


def error_line(error: LlorchError) -> bytes:
    """Return an error that comes behind the first line, as clients of streams expect it."""
    return _line(OllamaError(error.message))


def rfc3339(time_ms: int) -> str:
    """Return a time as Ollama tells it."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(body: object) -> bytes:
    return encode(body) + b"\n"


def _task(asked: Asked, name: str, text: str | Sequence[Message], *, room: int | None) -> SubmitTask:
    given = asked.options or Options()
    names = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty")
    chosen = {name: getattr(DEFAULTS if getattr(given, name) is None else given, name) for name in names}
    limit = given.num_predict if given.num_predict is not None and given.num_predict > 0 else room
    stops = [given.stop] if isinstance(given.stop, str) else given.stop or []
    return SubmitTask(
        model=name,
        prompt=text if isinstance(text, str) else UNSET,
        messages=UNSET if isinstance(text, str) else list(text),
        max_tokens=UNSET if limit is None else min(limit, room or limit),
        seed=UNSET if given.seed is None or given.seed == -1 else given.seed & MAX_SEED,
        temperature=chosen["temperature"],
        top_p=chosen["top_p"],
        top_k=max(0, chosen["top_k"]),
        min_p=chosen["min_p"],
        repetition_penalty=chosen["repeat_penalty"],
        stop=stops,
        on_disconnect="cancel",
        keep_alive=keeping(asked),
    )


def _unsupported(asked: Asked) -> list[FieldProblem]:
    given = asked.options or Options()
    names = [name for name in ("presence_penalty", "frequency_penalty") if getattr(given, name)]
    problems = [FieldProblem(f"options.{name}", "not supported; leave it out or give 0") for name in names]
    return problems + [
        FieldProblem(name, "not supported") for name in ("format", "think", "logprobs") if getattr(asked, name)
    ]


def _foreign(turn: Turn) -> list[str]:
    """Return what cannot be given to a model that reads text."""
    problems = []
    if turn.role == "tool" or turn.tool_calls:
        problems.append("calls of tools are not supported")
    if turn.images:
        problems.append("images are not supported: this model reads text alone")
    return problems
