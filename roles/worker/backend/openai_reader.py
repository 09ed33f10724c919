"""What a server's stream says, chat or plain completion, as an engine's chunks. Pure.

Servers differ in small things: thoughts come as `reasoning_content` or as `reasoning`, chances of a plain completion in
OpenAI's old form or in that of a chat, the number of tokens with every chunk or only at the end. No server tells ids.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import msgspec

from llorch import errors
from llorch.wire.codec import UNREADABLE
from llorch.wire.conversation import FunctionDelta, TokenChance, TokenLogprob, ToolCallDelta
from llorch.wire.events import MAX_COUNT, StopReason
from roles.worker.backend import REPLACEMENT, Chunk
from roles.worker.backend.llamacpp_options import LEAST_LOGPROB

DONE = b"[DONE]"
STOP_REASONS: dict[str, StopReason] = {"length": "max_tokens"}
"""Any other reason is that the model, or the server, had no more to say."""
FAILED = frozenset({"abort", "error"})
PIECES_A_TOKEN = 16
"""No server cuts its tokens so small; one that writes more pieces for each has no end."""


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, frozen=True):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Chance(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[_Chance] | None = None


class _Logprobs(msgspec.Struct, frozen=True):
    content: list[_Chance] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Timings(msgspec.Struct, frozen=True):
    predicted_n: int = 0


class _Progress(msgspec.Struct, frozen=True):
    total: int
    processed: int
    cache: int = 0


class _Line(msgspec.Struct, frozen=True):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    timings: _Timings = _Timings()
    prompt_progress: _Progress | None = None
    error: msgspec.Raw | None = None


class Reader:
    """Reads one answer.

    Args:
        top: How many of the likeliest tokens are told in the place of each.
        must_call: The answer has to be calls of tools, and nothing else.
        max_tokens: How much may be written.
        limited: The server was told so, and ends by itself.
    """

    def __init__(
        self, *, top: int = 0, must_call: bool = False, max_tokens: int = MAX_COUNT, limited: bool = True
    ) -> None:
        self._decoder = msgspec.json.Decoder(_Line)
        self._top = top
        self._must_call = must_call
        self._max_tokens = max_tokens
        self._limited = limited
        self._pieces = 0
        self._count = 0
        self._told = 0
        self._tokens_in = 0
        self._cached = 0
        self._called: set[int] = set()
        self._reason: str | None = None

    def read(self, text: bytes) -> Iterator[Chunk]:
        """Yield what a JSON text of the stream adds.

        Raises:
            EngineFailed: The server reported an error, or it is not what OpenAI's API says.
        """
        if text == DONE:
            return
        try:
            said = self._decoder.decode(text)
        except UNREADABLE:
            raise errors.EngineFailed("the server gave an answer that is not OpenAI's") from None
        if said.error is not None or (said.choices is None and said.usage is None and said.prompt_progress is None):
            raise errors.EngineFailed("the server reported an error while it generated")
        told = max(_sound(said.timings.predicted_n), _sound(said.usage.completion_tokens if said.usage else None))
        if said.usage is not None:
            self._tokens_in = _sound(said.usage.prompt_tokens) or self._tokens_in
            details = said.usage.prompt_tokens_details or _Details()
            self._cached = _sound(details.cached_tokens) or self._cached
        for choice in said.choices or ():
            chunk = self._chunk(choice)
            if chunk is not None:
                self._pieces += 1
                self._count = told or min(self._count + 1, self._max_tokens)
                yield chunk._replace(tokens_out=self._count)
            elif said.prompt_progress is not None:
                progress = said.prompt_progress
                yield Chunk(prefilled=progress.processed, prefill_total=progress.total, cached=progress.cache)
            if choice.finish_reason in FAILED:
                raise errors.EngineFailed("the server ended the answer before the text's end")
            self._reason = choice.finish_reason or self._reason
        self._told = told or self._told
        self._count = told or self._count

    def exceeds(self) -> bool:
        """Tell whether the server is to be left, because it goes on behind what may be written.

        Pieces are no tokens: a server that knows where to end is left only where it says that it has gone on, or
        where it does not end at all.
        """
        if not self._limited:
            return max(self._told, self._pieces) >= self._max_tokens
        return self._told > self._max_tokens or self._pieces >= self._max_tokens * PIECES_A_TOKEN

    def end(self) -> Chunk:
        """Return the last chunk, when the stream has ended.

        Raises:
            EngineFailed: The stream broke off.
            InvalidRequest: The answer had to be calls of tools, and is none.
        """
        if self._reason is None:
            raise errors.EngineFailed("the server ended its answer before the text's end")
        reason = STOP_REASONS.get(self._reason, "eos")
        if self._must_call and not self._called and reason == "eos":
            raise errors.InvalidRequest("the model's server cannot make the model call a tool; let it choose")
        return Chunk(tokens_out=self._count, stop=reason, tokens_in=self._tokens_in, cached=self._cached)

    def _chunk(self, choice: _Choice) -> Chunk | None:
        delta = choice.delta
        text = choice.text or delta.content or ""
        thought = (delta.reasoning_content or delta.reasoning or "").replace(REPLACEMENT, "")
        calls = [self._call(call) for call in delta.tool_calls or ()]
        logprobs = list(self._logprobs(choice.logprobs)) if choice.logprobs is not None else []
        if not (text or thought or calls or logprobs):
            return None
        text = "" if self._must_call else text
        return Chunk(text, logprobs=logprobs or (), reasoning_content=thought, tool_calls=calls or ())

    def _call(self, call: _Call) -> ToolCallDelta:
        function = call.function or _Function()
        index = max(0, len(self._called) - (not function.name)) if call.index is None else call.index
        identity = call.id or ""
        if index not in self._called:
            self._called.add(index)
            identity = identity or f"call_{uuid.uuid4().hex[:24]}"
        else:
            identity = ""
        arguments = (function.arguments or "").replace(REPLACEMENT, "")
        return ToolCallDelta(index, FunctionDelta(function.name or "", arguments), identity)

    def _logprobs(self, told: _Logprobs) -> Iterator[TokenLogprob]:
        if told.content is not None:
            for chance in told.content:
                yield _known(chance.token, chance.logprob, chance.bytes, self._likeliest(chance.top_logprobs or ()))
            return
        tops = told.top_logprobs or []
        for number, (token, logprob) in enumerate(zip(told.tokens or (), told.token_logprobs or (), strict=False)):
            others = (tops[number] if number < len(tops) else None) or {}
            ranked = sorted((_Chance(other, chance) for other, chance in others.items()), key=lambda one: -one.logprob)
            yield _known(token, LEAST_LOGPROB if logprob is None else logprob, None, self._likeliest(ranked))

    def _likeliest(self, chances: Sequence[_Chance]) -> list[TokenChance]:
        return [
            TokenChance(one.token, _least(one.logprob), _bytes(one.token, one.bytes)) for one in chances[: self._top]
        ]


def _sound(count: int | None) -> int:
    """Return a number of tokens that a server tells; 0 where it cannot be one."""
    return count if count is not None and 0 <= count <= MAX_COUNT else 0


def _known(token: str, logprob: float, spelt: list[int] | None, others: list[TokenChance]) -> TokenLogprob:
    return TokenLogprob(token, _least(logprob), _bytes(token, spelt), others)


def _bytes(token: str, spelt: list[int] | None) -> list[int]:
    return list(token.encode()) if spelt is None else spelt


def _least(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)
