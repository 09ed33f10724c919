"""The queue next to a plain list: any steps in any order leave both with the same answers."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llorch.wire.tasks import Priority
from roles.orchestrator.queue.order import PROMOTE_AFTER_MS, Ticket
from tests.support.queueing import Line


class QueueAgainstAList(RuleBasedStateMachine):
    """The queue next to a plain list of its tickets, searched and sorted anew for every question."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.queue = self.line.queue
        self.waiting: list[Ticket] = []
        self.gone: list[Ticket] = []
        self.now_ms = 0

    def in_order(self, model_ref: str | None = None) -> list[Ticket]:
        found = [ticket for ticket in self.waiting if model_ref in {None, ticket.model_ref}]
        return sorted(found, key=lambda ticket: (ticket.lane == "batch", ticket.tag, ticket.seq))

    @rule(
        session_id=st.sampled_from([None, "a", "b"]),
        priority=st.sampled_from(["interactive", "batch"]),
        model_ref=st.sampled_from(["m", "n"]),
        life_ms=st.integers(1, 2 * PROMOTE_AFTER_MS),
        rest_ms=st.sampled_from([0, 0, 1_000]),
    )
    def add(self, session_id: str | None, priority: Priority, model_ref: str, life_ms: int, rest_ms: int) -> None:
        ticket = self.line.come(
            session_id,
            priority=priority,
            model_ref=model_ref,
            now_ms=self.now_ms,
            deadline_ms=self.now_ms + life_ms,
            not_before_ms=self.now_ms + rest_ms,
        )
        self.waiting.append(ticket)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))

        assert self.queue.remove(ticket.id) is ticket

        self.waiting.remove(ticket)
        self.gone.append(ticket)

    @precondition(lambda self: self.waiting)
    @rule(model_ref=st.sampled_from(["m", "n"]))
    def take(self, model_ref: str) -> None:
        expected = [ticket for ticket in self.in_order(model_ref) if ticket.not_before_ms <= self.now_ms][:1]

        self.queue.rested(now_ms=self.now_ms)
        heads = self.queue.heads(model_ref, 1)

        assert heads == expected
        for ticket in heads:
            assert self.queue.take(ticket.id) is ticket
            self.waiting.remove(ticket)
            self.gone.append(ticket)

    @precondition(lambda self: self.gone)
    @rule(data=st.data(), rest_ms=st.integers(0, 2_000))
    def try_again(self, data: st.DataObject, rest_ms: int) -> None:
        ticket = data.draw(st.sampled_from(self.gone))
        self.gone.remove(ticket)
        ticket.not_before_ms = self.now_ms + rest_ms
        self.queue.add(ticket)
        self.waiting.append(ticket)

    @rule(pass_ms=st.sampled_from([1, 1_000, PROMOTE_AFTER_MS // 2]))
    def promote(self, pass_ms: int) -> None:
        self.now_ms += pass_ms
        due = [t for t in self.waiting if t.lane == "batch" and t.submitted_ms <= self.now_ms - PROMOTE_AFTER_MS]

        assert self.queue.promote(now_ms=self.now_ms) == len(due)
        assert all(ticket.lane == "interactive" for ticket in due)

    @invariant()
    def answers_as_the_list_does(self) -> None:
        queue, ordered = self.queue, self.in_order()
        assert len(queue) == len(ordered)
        assert [queue.position(ticket.id) for ticket in ordered] == list(range(len(ordered)))
        assert [queue.get(ticket.id) for ticket in ordered] == ordered
        assert not any(ticket.id in queue for ticket in self.gone)
        assert queue.depth("interactive") == sum(ticket.lane == "interactive" for ticket in ordered)
        assert set(queue.models()) == {ticket.model_ref for ticket in ordered}
        for model_ref in ("m", "n"):
            assert queue.waiting(model_ref) == len(self.in_order(model_ref))
            assert {t.id for t in queue.all_of(model_ref, 10**6)} == {t.id for t in self.in_order(model_ref)}
            oldest = min((ticket.submitted_ms for ticket in self.in_order(model_ref)), default=0)
            assert queue.oldest_ms(model_ref) == oldest
        late = {ticket.id for ticket in ordered if ticket.deadline_ms <= self.now_ms}
        assert {ticket.id for ticket in queue.expired(now_ms=self.now_ms)} == late


TestQueueAgainstAList = QueueAgainstAList.TestCase
TestQueueAgainstAList.settings = settings(max_examples=60, stateful_step_count=40)
