"""A queue of jobs that come in one after the other, for the tests of its order."""

from __future__ import annotations

from llorch.job import JobId
from llorch.wire.tasks import Priority
from roles.orchestrator.queue.order import JobQueue, Ticket

FAR_MS = 2**50


class Line:
    """A queue, and jobs that come in one after the other."""

    def __init__(self) -> None:
        self.queue = JobQueue()
        self.seq = 0

    def come(
        self,
        session_id: str | None = None,
        *,
        priority: Priority = "interactive",
        model_ref: str = "m",
        now_ms: int = 0,
        deadline_ms: int = FAR_MS,
        not_before_ms: int = 0,
        tag: int | None = None,
    ) -> Ticket:
        self.seq += 1
        ticket = Ticket(
            id=JobId(f"{self.seq}"),
            seq=self.seq,
            model_ref=model_ref,
            session_id=session_id,
            priority=priority,
            submitted_ms=now_ms,
            tag=self.queue.next_tag(priority, session_id, model_ref=model_ref) if tag is None else tag,
            deadline_ms=deadline_ms,
            correlation_id="c",
            not_before_ms=not_before_ms,
        )
        self.queue.add(ticket)
        return ticket

    def ids(self) -> list[JobId]:
        """Return every waiting job by its position."""
        return sorted((JobId(str(n)) for n in range(1, self.seq + 1) if JobId(str(n)) in self.queue), key=self._place)

    def _place(self, job_id: JobId) -> int:
        position = self.queue.position(job_id)
        assert position is not None
        return position

    def serve(self, count: int = 10**6) -> list[Ticket]:
        """Take the first jobs of the queue, one after the other."""
        taken = [self.queue.take(job_id) for job_id in self.ids()[:count]]
        return [ticket for ticket in taken if ticket is not None]
