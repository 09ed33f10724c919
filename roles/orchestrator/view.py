"""What people are shown of a job: from its row to the wire. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from llorch.job import State
from llorch.wire.tasks import Attempt, Breakdown, Explanation, JobError, Task, Timings
from roles.orchestrator.scheduler.decisions import Decision, Dispatch, Hold, Wait
from roles.orchestrator.scheduler.progress import Loading
from roles.orchestrator.scheduler.startup import breakdown
from roles.orchestrator.state.rows import AttemptRow, JobRow

T = TypeVar("T")


def events_url(job_id: str) -> str:
    """Return the address of a job's events."""
    return f"/v2/tasks/{job_id}/events"


def task_of(row: JobRow, *, position: int | None, attempts: Sequence[AttemptRow] | None) -> Task:
    """Return everything known about a job, but for its prompt and output."""
    error: JobError | UnsetType = UNSET
    if row.error_code is not None:
        error = JobError(row.error_code, row.error_message or "", bool(row.error_retriable))
    return Task(
        job_id=row.id,
        status=row.state.value,
        model=row.model,
        model_ref=row.model_ref,
        priority=row.priority,
        seed=row.seed,
        max_tokens=row.max_tokens,
        timings=Timings(
            submitted_ms=row.submitted_ms,
            deadline_ms=row.deadline_ms,
            dispatched_ms=_given(row.dispatched_ms),
            started_ms=_given(row.started_ms),
            first_token_ms=_given(row.first_token_ms),
            finished_ms=_given(row.finished_ms),
            breakdown=breakdown_of(row, attempts or ()),
        ),
        attempts=row.attempt,
        on_disconnect=row.on_disconnect,
        correlation_id=row.correlation_id,
        events_url=events_url(row.id),
        prompt_sha256=row.prompt_sha256,
        kind=row.kind,
        queue_position=_given(position),
        session_id=_given(row.session_id),
        worker_id=_given(row.worker_id),
        pool_id=_given(row.pool_id),
        engine=_given(row.engine),
        tokens_in=_given(row.tokens_in),
        tokens_cached=_given(row.tokens_cached),
        tokens_out=_given(row.tokens_out),
        stop_reason=_given(row.stop_reason),
        output_sha256=_given(row.output_sha256),
        error=error,
        attempt_log=UNSET if attempts is None else [_attempt(attempt) for attempt in attempts],
    )


def breakdown_of(row: JobRow, attempts: Sequence[AttemptRow]) -> Breakdown | UnsetType:
    """Return what the time to a job's first token was spent on; the attempt that gave the token is the one told of."""
    first_ms = row.first_token_ms
    if first_ms is None:
        return UNSET
    begun = [attempt for attempt in attempts if attempt.dispatched_ms <= first_ms]
    if not begun:
        return UNSET
    last = max(begun, key=lambda attempt: attempt.number)
    return breakdown(
        last.startup, submitted_ms=row.submitted_ms, dispatched_ms=last.dispatched_ms, first_token_ms=first_ms
    )


def explain(  # noqa: PLR0913 - all that is known of a job
    row: JobRow,
    *,
    attempts: Sequence[AttemptRow] = (),
    position: int | None,
    last: Decision | None,
    dispatch: Dispatch | None,
    hold: Hold | None = None,
    loading: Sequence[Loading],
    now_ms: int,
) -> Explanation:
    """Tell in words and as data why a job is where it is, from what was decided last.

    Args:
        row: The job.
        attempts: Its attempts so far.
        position: How many jobs are served before it.
        last: What was decided last about its model, while jobs wait for that.
        dispatch: The decision that gave it to its worker, if that is still known.
        hold: What it is held back for while it waits.
        loading: Workers of its model that are on their way.
        now_ms: The time.
    """
    reason, text = _why(row, position, hold or last, loading, now_ms)
    if dispatch is not None and dispatch.worker_id == row.worker_id and row.state is not State.QUEUED:
        text += f" It went there because {dispatch.text}."
    data: dict[str, object] = {
        "model_ref": row.model_ref,
        "attempts": row.attempt,
        "position": position,
        "pool_id": row.pool_id,
    }
    spent = breakdown_of(row, attempts)
    if spent is not UNSET:
        data["breakdown"] = msgspec.to_builtins(spent)
        text += f" {_told(spent)}"
    decision = (hold or last) if row.state is State.QUEUED else dispatch
    if decision is not None:
        data["decision"] = msgspec.to_builtins(decision)
    return Explanation(job_id=row.id, status=row.state.value, reason=reason, text=text, data=data)


def _why(
    row: JobRow, position: int | None, last: Decision | None, loading: Sequence[Loading], now_ms: int
) -> tuple[str, str]:
    if row.state is State.COMPLETED:
        return "completed", f"It ran on worker {row.worker_id} of pool {row.pool_id} and ended with {row.stop_reason}."
    if row.state in {State.FAILED, State.CANCELLED}:
        return (row.error_code or row.state).lower(), f"It ended with {row.error_code}: {row.error_message}."
    if row.state is State.CANCELLING:
        return "cancelling", f"It is being cancelled; worker {row.worker_id} has yet to let go of it."
    if row.state is not State.QUEUED:
        return "running", f"It runs on worker {row.worker_id} of pool {row.pool_id}, attempt {row.attempt}."
    ahead = f"Jobs served before it: {position}. " if position else ""
    if row.not_before_ms > now_ms:
        seconds = (row.not_before_ms - now_ms) / 1000
        return "retry", f"{ahead}Attempt {row.attempt} failed; it is tried again in {seconds:.1f} s."
    if loading:
        first = loading[0]
        doing = "downloading" if first.downloading else "loading"
        return doing, f"{ahead}Pool {first.pool_id} is {doing} its model: {first.progress:.0f} %."
    if isinstance(last, Hold | Wait):
        return last.reason if isinstance(last, Wait) else "slot", f"{ahead}It waits because {last.text}."
    return "queued", f"{ahead}It is about to be placed" + (f": {last.text}." if last is not None else ".")


def _told(spent: Breakdown) -> str:
    """Say what the time to the first token was spent on."""
    parts = {name.removesuffix("_ms"): getattr(spent, name) for name in spent.__struct_fields__}
    spent_on = ", ".join(f"{name} {ms} ms" for name, ms in parts.items() if ms)
    return f"Its first token came after {sum(parts.values())} ms" + (f": {spent_on}." if spent_on else ".")


def _attempt(row: AttemptRow) -> Attempt:
    return Attempt(
        number=row.number,
        worker_id=row.worker_id,
        pool_id=row.pool_id,
        dispatched_ms=row.dispatched_ms,
        ended_ms=_given(row.ended_ms),
        outcome=_given(row.outcome),
    )


def _given(value: T | None) -> T | UnsetType:
    return UNSET if value is None else value
