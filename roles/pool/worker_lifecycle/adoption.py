"""What a pool makes of a worker that an earlier process of it has left: takes it over, buries it, or leaves it alone.

A worker is taken over when the process that was written down still runs: the same id and start, the worker's id in
its command line, its token in its environment, and, if it answers, the same worker and model in its answer. One that
does not answer is taken over too: whoever watches it gives it the time that any worker has. A process about which one
of these cannot be told or is wrong is not touched. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llorch.wire.workers import WorkerHealth
from roles.pool.worker_lifecycle.identity import Seen
from roles.pool.worker_lifecycle.ledger import Saved

Fate = Literal["adopt", "gone", "strange"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a worker; `reason` is for people, `process` what runs under its process id, if anything does."""

    saved: Saved
    fate: Fate
    reason: str = ""
    process: Seen | None = None


def judge(saved: Saved, process: Seen | None, health: WorkerHealth | None) -> Finding:
    """Decide what a saved worker is.

    Args:
        saved: As it was written down.
        process: What runs under its process id; or, where that was not written down, the process that says it is it.
        health: What answers where it answered; None when nothing does.
    """
    if process is None and not saved.birth:
        return Finding(saved, "gone", "the pool ended before this worker's process had started")
    if process is None or (saved.birth and process.birth != saved.birth):
        return Finding(saved, "gone", "it ended while no pool was watching")
    doubt = _doubt(saved, process, health)
    if doubt:
        reason = f"the process {process.pid} may be this worker and is left alone: {doubt}; end it if it is not needed"
        return Finding(saved, "strange", reason, process)
    return Finding(saved, "adopt", process=process)


def _doubt(saved: Saved, process: Seen, health: WorkerHealth | None) -> str:
    if process.named is None:
        return "it cannot be looked at"
    if not process.named:
        return "its command line is another one"
    if process.trusted is False:
        return "it does not have the worker's token"
    if health is not None and health.worker_id != saved.record.worker_id:
        return "another worker answers at its address"
    if health is not None and health.model_ref != saved.record.model_ref:
        return "it serves another model"
    return ""
