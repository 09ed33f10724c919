"""The end of a job: one transaction, then its readers, the figures, and one line in the log."""

from __future__ import annotations

import asyncio
import hashlib

from msgspec import UNSET

from llorch import log
from llorch.errors import Cancelled, LlorchError
from llorch.job import Move, State
from llorch.wire.codec import encode
from llorch.wire.events import counts_of
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.metrics import OrchestratorMetrics
from roles.orchestrator.queue.attempt import Attempt
from roles.orchestrator.queue.order import Ticket
from roles.orchestrator.queue.service_rate import ServiceRate
from roles.orchestrator.relay import LARGE_TEXT_BYTES, Relay
from roles.orchestrator.state.rows import Ending, JobRow
from roles.orchestrator.state.store import Store
from roles.orchestrator.stream import Stream

_log = log.get("orchestrator.jobs")


class Settlement:
    """Ends jobs; the one way to a final state."""

    def __init__(
        self, store: Store, relay: Relay, metrics: OrchestratorMetrics, rate: ServiceRate, clock_ms: ClockMs
    ) -> None:
        self._store = store
        self._relay = relay
        self._metrics = metrics
        self._rate = rate
        self._clock_ms = clock_ms

    async def settle(
        self,
        ticket: Ticket,
        move: Move,
        error: LlorchError | None,
        attempt: Attempt | None,
    ) -> None:
        """End a job as *move* says; where it is being cancelled already, that is how it ends.

        Args:
            ticket: The job.
            move: What happened; the transition table decides whether it can.
            error: Why it has no (whole) output; None when it was completed.
            attempt: The last attempt, if there was one.
        """
        now_ms = self._clock_ms()
        stream = self._relay.open(ticket.id, ticket.seq, ticket.kind)
        self._relay.store_rest(stream)
        ending = await self._ending(stream, error, attempt, now_ms=now_ms)
        state = await self._store.settle(ticket.id, move, ending)
        row = await self._store.get(ticket.id)
        if row is None:
            return
        if state is not None:
            self._relay.finish(stream, row)
            self._rate.finished(now_ms)
            self._count(row)
        elif row.state is State.CANCELLING and move is not Move.CONFIRM_CANCEL:
            await self.settle(ticket, Move.CONFIRM_CANCEL, cancelled(), attempt)

    async def _ending(
        self, stream: Stream, error: LlorchError | None, attempt: Attempt | None, *, now_ms: int
    ) -> Ending:
        end = attempt.end if attempt is not None and error is None else None
        before = attempt.tokens_before if attempt is not None else 0
        written = stream.count if stream.kind == "text-gen" else 0
        text = await self._relay.text(stream) if error is None else ""
        counts = counts_of(error.details) if error is not None else UNSET
        if attempt is not None:
            attempt.answer = text
        return Ending(
            finished_ms=now_ms,
            event_serial=stream.next_serial(now_ms),
            tokens_in=attempt.tokens_in if attempt is not None and attempt.started else None,
            tokens_cached=end.tokens_cached if end is not None else None,
            tokens_out=before + end.tokens_out if end is not None else written,
            pieces=stream.count,
            decode_ms=end.decode_ms if end is not None else None,
            stop_reason=end.stop_reason if end is not None else None,
            first_token_ms=attempt.first_token_ms if attempt is not None else None,
            output_sha256=await _digest(text) if error is None else None,
            error_code=error.code if error is not None else None,
            error_message=error.message if error is not None else None,
            error_retriable=error.retriable if error is not None else None,
            error_details=encode(counts).decode() if counts is not UNSET else None,
        )

    def _count(self, row: JobRow) -> None:
        self._metrics.dispatched.labels(row.state).inc()
        if row.started_ms is not None:
            self._metrics.queue_wait_ms.observe(row.started_ms - row.submitted_ms)
        if row.tokens_in is not None and row.stop_reason is not None:
            self._metrics.tokens_in.inc(row.tokens_in)
            self._metrics.tokens_cached.inc(row.tokens_cached or 0)
        if row.first_token_ms is not None:
            self._metrics.first_token_ms.observe(row.first_token_ms - row.submitted_ms)
        _log.info(
            "job_finished",
            job_id=row.id,
            correlation_id=row.correlation_id,
            state=row.state,
            code=row.error_code,
            model=row.model,
            worker_id=row.worker_id,
            pool_id=row.pool_id,
            attempts=row.attempt,
            tokens_in=row.tokens_in,
            tokens_cached=row.tokens_cached,
            tokens_out=row.tokens_out,
            stop_reason=row.stop_reason,
            wall_ms=(row.finished_ms or 0) - row.submitted_ms,
            decode_ms=row.decode_ms,
        )


async def _digest(text: str) -> str:
    """Return the digest of an output; that of a large one takes so long that it is made in a thread."""
    if len(text) < LARGE_TEXT_BYTES:
        return hashlib.sha256(text.encode()).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(text.encode()).hexdigest())


def cancelled() -> Cancelled:
    """Return the error that a cancelled job ends with."""
    return Cancelled("the job was cancelled")
