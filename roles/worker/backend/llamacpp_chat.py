"""llama.cpp's own chat, for what it takes apart better than anybody: calls of tools, and thoughts. Pure.

It knows the form in which each model writes them from the model's chat template. Its answer has the shape of OpenAI's
and tells no token ids, so that an answer which came this way cannot be continued elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from llorch import errors
from llorch.wire.conversation import FunctionDelta, ToolCallDelta
from llorch.wire.events import StopReason
from llorch.wire.tasks import Talk
from roles.worker.backend import REPLACEMENT, Chunk, Prompt
from roles.worker.backend.llamacpp_options import sampled

STOP_REASONS: dict[str, StopReason] = {"stop": "eos", "tool_calls": "eos", "length": "max_tokens"}


class TemplateCaps(msgspec.Struct, frozen=True):
    """What llama.cpp found that a chat template can do."""

    supports_tools: bool = False


class Properties(msgspec.Struct, frozen=True):
    """What llama.cpp tells of a loaded model."""

    chat_template_caps: TemplateCaps = TemplateCaps()


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, frozen=True):
    index: int = 0
    id: str | None = None
    function: _Function = _Function()


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] = []


class _Choice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()
    finish_reason: str | None = None


class _Timings(msgspec.Struct, frozen=True):
    predicted_n: int = 0
    draft_n: int = 0
    draft_n_accepted: int = 0


class _Progress(msgspec.Struct, frozen=True):
    total: int
    processed: int
    cache: int = 0


class _Line(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    timings: _Timings = _Timings()
    prompt_progress: _Progress | None = None
    error: dict[str, Any] | None = None


def chat(prompt: Prompt, talk: Talk, *, max_tokens: int, seed: int, reuse_prompt: bool) -> dict[str, object]:
    """Return the body of a `/v1/chat/completions` request; see `llamacpp_options.completion`."""
    body = sampled(talk, max_tokens=max_tokens, seed=seed, reuse_prompt=reuse_prompt)
    body |= {"messages": prompt.messages, "timings_per_token": True, "reasoning_format": "auto"}
    if prompt.tools:
        body |= {
            "tools": prompt.tools,
            "tool_choice": "auto",
            "parallel_tool_calls": talk.parallel_tool_calls is not False,
        }
    return body


class ChatReader:
    """Reads one answer, line by line."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(_Line)
        self._count = 0

    def read(self, line: bytes) -> Iterator[Chunk]:
        """Yield what a line adds; the last chunk has the reason of the end.

        Raises:
            EngineFailed: llama.cpp reported an error.
        """
        said = self._decoder.decode(line[line.index(b"{") :])
        if said.error is not None or line.startswith(b"error"):
            raise errors.EngineFailed("the engine reported an error while it generated")
        self._count = max(self._count, said.timings.predicted_n)
        for choice in said.choices:
            delta = choice.delta
            if delta.content or delta.reasoning_content or delta.tool_calls:
                yield Chunk(
                    delta.content or "",
                    self._count,
                    reasoning_content=(delta.reasoning_content or "").replace(REPLACEMENT, ""),
                    tool_calls=[_told(call) for call in delta.tool_calls],
                )
            elif said.prompt_progress is not None:
                progress = said.prompt_progress
                yield Chunk(prefilled=progress.processed, prefill_total=progress.total, cached=progress.cache)
            if choice.finish_reason is not None:
                yield Chunk(
                    tokens_out=self._count,
                    stop=STOP_REASONS.get(choice.finish_reason, "eos"),
                    drafted=said.timings.draft_n,
                    accepted=said.timings.draft_n_accepted,
                )


def _told(call: _Call) -> ToolCallDelta:
    arguments = (call.function.arguments or "").replace(REPLACEMENT, "")
    return ToolCallDelta(call.index, FunctionDelta(call.function.name or "", arguments), call.id or "")
