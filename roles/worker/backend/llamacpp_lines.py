"""The lines in which llama.cpp tells what it generates, as chunks. Pure; those of its chat are in `llamacpp_chat`."""

from __future__ import annotations

from typing import Any

import msgspec

from llorch import errors
from llorch.wire.conversation import TokenLogprob
from llorch.wire.events import StopReason
from roles.worker.backend import Chunk
from roles.worker.backend.llamacpp_options import told_logprobs

STOP_REASONS: dict[str, StopReason] = {"eos": "eos", "limit": "max_tokens", "none": "max_tokens"}


class _Progress(msgspec.Struct, frozen=True):
    total: int
    processed: int
    cache: int = 0


class _Timings(msgspec.Struct, frozen=True):
    draft_n: int = 0
    draft_n_accepted: int = 0


class _Line(msgspec.Struct, frozen=True):
    content: str = ""
    tokens: list[int] = []
    tokens_predicted: int = 0
    stop: bool = False
    stop_type: str = "none"
    prompt_progress: _Progress | None = None
    timings: _Timings | None = None
    error: dict[str, Any] | None = None
    completion_probabilities: list[TokenLogprob] = []


class LineReader:
    """Reads the lines of one answer.

    Args:
        top: How many of the likeliest tokens are told beside each.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._decoder = msgspec.json.Decoder(_Line)

    def read(self, line: bytes) -> Chunk:
        """Return what a line tells.

        Raises:
            EngineFailed: llama.cpp reported an error.
        """
        said = self._decoder.decode(line[line.index(b"{") :])
        chunk = self._plain(said, line)
        if said.timings is None or not said.timings.draft_n:
            return chunk
        return chunk._replace(drafted=said.timings.draft_n, accepted=said.timings.draft_n_accepted)

    def _plain(self, said: _Line, line: bytes) -> Chunk:
        if said.stop:
            return Chunk(said.content, said.tokens_predicted, STOP_REASONS.get(said.stop_type, "eos"))
        if said.prompt_progress is not None:
            progress = said.prompt_progress
            return Chunk(prefilled=progress.processed, prefill_total=progress.total, cached=progress.cache)
        if said.error is not None or line.startswith(b"error"):
            raise errors.EngineFailed("the engine reported an error while it generated")
        if said.completion_probabilities:
            logprobs = told_logprobs(said.completion_probabilities, self._top)
            return Chunk(said.content, said.tokens_predicted, ids=said.tokens, logprobs=logprobs)
        return Chunk(said.content, said.tokens_predicted, ids=said.tokens)
