"""From an engine's chunks to a job's events: the token path. Writes to one job; touches nothing else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from llorch import errors
from llorch.wire.events import Metrics, StopReason, WorkerEnd
from roles.worker.backend import Chunk
from roles.worker.inference.jobs import Job
from roles.worker.inference.rate import Rate
from roles.worker.inference.text import Cutter

PROGRESS_EVERY_S = 0.25


@dataclass(slots=True)
class Tally:
    """What one generation took so far; written by `write` alone."""

    tokens_in: int
    tokens_out: int = 0
    began_s: float = field(default_factory=time.monotonic)
    first_token_s: float | None = None

    def first_token_ms(self) -> int:
        """Return how long the prompt took, so far if it still does."""
        return _ms((self.first_token_s or time.monotonic()) - self.began_s)

    def decode_ms(self) -> int:
        """Return how long it has been since the first token."""
        return 0 if self.first_token_s is None else _ms(time.monotonic() - self.first_token_s)

    def end(self, reason: StopReason) -> WorkerEnd:
        """Return the event that says it is over."""
        return WorkerEnd(
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            stop_reason=reason,
            prefill_ms=self.first_token_ms(),
            decode_ms=self.decode_ms(),
        )


async def write(job: Job, steps: AsyncIterator[list[Chunk]], cutter: Cutter, tally: Tally, rate: Rate) -> StopReason:
    """Write what the engine yields as events of *job* until the text ends; return why it did.

    Raises:
        EngineFailed: The engine stopped without an end.
        WorkerLost: Nobody reads.
    """
    progress_s = tally.began_s
    async for chunks in steps:
        now_s = time.monotonic()
        before = tally.tokens_out
        pieces, reason = _cut(chunks, cutter, tally)
        if tally.tokens_out != before:
            if tally.first_token_s is None:
                tally.first_token_s = now_s
            rate.add(tally.tokens_out - before, now_s)
        elif chunks[-1].prefill_total and now_s - progress_s >= PROGRESS_EVERY_S:
            progress_s = now_s
            job.event("metrics", Metrics(prefill_tokens=chunks[-1].prefilled, prefill_total=chunks[-1].prefill_total))
        if pieces:
            job.tokens(pieces)
        if reason is not None:
            return reason
    raise errors.EngineFailed("the engine ended its answer before the text's end")


def _cut(chunks: list[Chunk], cutter: Cutter, tally: Tally) -> tuple[list[str], StopReason | None]:
    """Return the texts to show of *chunks*, and why the text is over if it is."""
    pieces: list[str] = []
    for chunk in chunks:
        if chunk.prefill_total:
            continue
        tally.tokens_out = chunk.tokens_out
        shown = cutter.feed(chunk.text) if chunk.text else ""
        if shown:
            pieces.append(shown)
        if cutter.stopped:
            return pieces, "stop_sequence"
        if chunk.stop is not None:
            if held := cutter.flush():
                pieces.append(held)
            return pieces, chunk.stop
    return pieces, None


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
