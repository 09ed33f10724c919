"""How jobs are shown to a person. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import UNSET, UnsetType

from llorch.cli.figures import duration
from llorch.wire.embedding import NOUNS
from llorch.wire.tasks import Breakdown, Task

HEADER = ("ID", "STATUS", "MODEL", "AGE", "TOKENS", "TIME")


def row(task: Task, now_ms: int) -> Sequence[str]:
    """Return a job's row under `HEADER`; its time is what it took, or takes so far.

    Its tokens are those that it has written; of a job that writes no text, those that it has read.
    """
    timings = task.timings
    counted = task.tokens_out if task.kind == "text-gen" else task.tokens_in
    ended_ms = timings.finished_ms if isinstance(timings.finished_ms, int) else now_ms
    return (
        task.job_id,
        task.status,
        task.model,
        duration(now_ms - timings.submitted_ms),
        str(counted) if isinstance(counted, int) else "–",
        duration(ended_ms - timings.submitted_ms),
    )


def facts(task: Task) -> Sequence[tuple[str, str]]:
    """Return everything known about a job, as names and values; what is not known yet is left out."""
    writes = task.kind == "text-gen"
    named: list[tuple[str, object]] = [
        ("id", task.job_id),
        ("status", task.status),
        ("queue position", task.queue_position),
        ("model", task.model),
        ("model reference", task.model_ref),
        ("priority", task.priority),
        ("session", task.session_id),
        ("kind", UNSET if writes else NOUNS[task.kind]),
        ("seed", task.seed if writes else UNSET),
        ("max tokens", task.max_tokens if writes else UNSET),
        ("on disconnect", task.on_disconnect),
        *_times(task),
        ("attempts", task.attempts),
        *(
            (f"attempt {a.number}", f"worker {a.worker_id} on pool {a.pool_id}: {a.outcome or 'running'}")
            for a in (task.attempt_log or [])
        ),
        ("worker", task.worker_id),
        ("pool", task.pool_id),
        ("engine", task.engine),
        ("tokens in", task.tokens_in),
        ("of them cached", task.tokens_cached),
        ("tokens out", task.tokens_out if writes else UNSET),
        ("stop reason", task.stop_reason),
        ("error", UNSET if task.error is UNSET else f"{task.error.code}: {task.error.message}"),
        ("prompt SHA-256", task.prompt_sha256),
        ("output SHA-256", task.output_sha256),
        ("correlation id", task.correlation_id),
    ]
    return [(name, str(value)) for name, value in named if value is not UNSET and value != ""]


def _times(task: Task) -> list[tuple[str, object]]:
    """Return when what happened: the first as a date, the rest as the time since then."""
    timings = task.timings
    start = timings.submitted_ms
    later = (
        ("dispatched", timings.dispatched_ms),
        ("started", timings.started_ms),
        ("first token", timings.first_token_ms),
        ("finished", timings.finished_ms),
    )
    submitted = datetime.fromtimestamp(start / 1000, UTC).astimezone().isoformat(" ", "milliseconds")
    since = [(name, f"+ {duration(ms - start)}") for name, ms in later if isinstance(ms, int)]
    return [
        ("submitted", submitted),
        *since,
        *_parts(timings.breakdown),
        ("deadline", f"+ {duration(timings.deadline_ms - start)}"),
    ]


def _parts(spent: Breakdown | UnsetType) -> list[tuple[str, object]]:
    """Return what the time to the first token was spent on."""
    if isinstance(spent, UnsetType):
        return []
    parts = [(name.removesuffix("_ms"), getattr(spent, name)) for name in spent.__struct_fields__]
    return [("until first token", ", ".join(f"{name} {duration(ms)}" for name, ms in parts if ms) or "0 ms")]
