"""From an engine's chunks to a job's events: the token path. Writes to one job; touches nothing else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from llorch import errors
from llorch.wire.conversation import TokenLogprob
from llorch.wire.events import Metrics, StopReason, WorkerEnd
from roles.worker.backend import Chunk
from roles.worker.inference.job import Apart, Job, Piece
from roles.worker.inference.rate import Rate
from roles.worker.inference.text import Cutter

PROGRESS_EVERY_S = 0.25


@dataclass(slots=True)
class Tally:
    """What one generation took so far; written by `write` alone."""

    tokens_in: int
    tokens_cached: int = 0
    tokens_out: int = 0
    began_s: float = field(default_factory=time.monotonic)
    first_token_s: float | None = None
    drafted: int = 0
    accepted: int = 0

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
            tokens_cached=self.tokens_cached,
        )


class Draft:
    """One job's text on its way out: joins the engine's chunks into token events.

    At every event the ids so far are the tokens of the text so far, shown and held: whoever goes on with them goes on
    here. Also at the last one: behind the first part of a stop sequence its rest is held, and the token that ends the
    text is left out, so that an attempt that never heard of the end comes to the same end again.

    Args:
        stops: The texts that end the output.
        held: What an earlier attempt held back.
    """

    def __init__(self, stops: Sequence[str], *, held: str = "") -> None:
        self._cutter = Cutter(stops, held=held)
        self._ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self.count = 0

    def begin(self) -> tuple[list[Piece], StopReason | None]:
        """Look at what an earlier attempt held back: it can hold a whole stop sequence."""
        return self.add([Chunk()])

    def add(self, chunks: Sequence[Chunk]) -> tuple[list[Piece], StopReason | None]:
        """Return what to show of *chunks*, and why the text is over if it is."""
        pieces: list[Piece] = []
        for chunk in chunks:
            shown = self._cutter.feed(chunk.text)
            if chunk.stop == "eos" and chunk.tokens_out == self.count:
                del self._ids[-1:], self._logprobs[-1:]
            self._ids += chunk.ids
            if chunk.logprobs:
                self._logprobs += chunk.logprobs
            self.count = chunk.tokens_out
            if chunk.stop is not None and not self._cutter.stopped:
                shown += self._cutter.flush()
            aside = chunk.reasoning_content or chunk.tool_calls
            if shown or aside:
                apart = None
                if aside or self._logprobs:
                    apart = Apart(self._logprobs, chunk.reasoning_content, chunk.tool_calls)
                    self._logprobs = []
                pieces.append(Piece(shown, self._ids, self._cutter.held, apart))
                self._ids = []
            if self._cutter.stopped:
                return pieces, "stop_sequence"
            if chunk.stop is not None:
                return pieces, chunk.stop
        return pieces, None


async def write(job: Job, steps: AsyncIterator[list[Chunk]], draft: Draft, tally: Tally, rate: Rate) -> StopReason:
    """Write what the engine yields as events of *job* until the text ends; return why it did.

    Raises:
        EngineFailed: The engine stopped without an end.
        WorkerLost: Nobody reads.
    """
    progress_s = tally.began_s
    async for chunks in steps:
        now_s = time.monotonic()
        if tally.first_token_s is None:
            tally.tokens_cached = max(tally.tokens_cached, *(chunk.cached for chunk in chunks))
        if chunks[-1].prefill_total:
            if now_s - progress_s >= PROGRESS_EVERY_S:
                progress_s = now_s
                read, total = chunks[-1].prefilled, chunks[-1].prefill_total
                job.event("metrics", Metrics(prefill_tokens=read, prefill_total=total))
            continue
        if chunks[-1].drafted:
            tally.drafted, tally.accepted = chunks[-1].drafted, chunks[-1].accepted
        if chunks[-1].tokens_in:
            tally.tokens_in, tally.tokens_cached = chunks[-1].tokens_in, chunks[-1].cached
        pieces, reason = draft.add(chunks)
        if draft.count != tally.tokens_out:
            if tally.first_token_s is None:
                tally.first_token_s = now_s
            rate.add(max(0, draft.count - tally.tokens_out), now_s)  # less where a server tells at the end how many
            tally.tokens_out = draft.count
        if pieces:
            job.tokens(pieces)
        if reason is not None:
            return reason
    raise errors.EngineFailed("the engine ended its answer before the text's end")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
