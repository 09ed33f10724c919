"""The order of the queue where jobs wait for several models: none gives or takes a turn at another."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.job import JobId
from llorch.wire.tasks import Priority
from roles.orchestrator.queue.order import PROMOTE_AFTER_MS, Ticket
from tests.support.queueing import Line

Step = tuple[str, str, str, str]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["come", "come", "come", "serve", "cancel", "retry", "pass time"]),
        st.sampled_from("xyz"),
        st.sampled_from("abc"),
        st.sampled_from(["interactive", "batch"]),
    ),
    max_size=60,
)


def test_models_whose_jobs_never_came_are_forgotten() -> None:
    line = Line()
    line.come("stays")

    for n in range(3_000):
        line.queue.next_tag("interactive", "a", model_ref=f"m{n}")

    models = line.queue._lanes["interactive"].models
    assert len(models) < 2_000
    assert "m" in models


def test_a_model_without_waiting_jobs_takes_no_memory() -> None:
    line = Line()

    for n in range(10):
        line.queue.take(line.come("a", model_ref=f"m{n}").id)

    assert line.queue._lanes["interactive"].models == {}


@pytest.mark.parametrize("elsewhere", [0, 1, 50])
def test_what_another_model_served_does_not_put_a_session_behind_a_flood(elsewhere: int) -> None:
    line = Line()
    for _ in range(1_000):
        line.come("flood", model_ref="busy")
    line.queue.take(line.queue.heads("busy", 1)[0].id)
    for _ in range(elsewhere):
        line.queue.take(line.come("flood", model_ref="free").id)

    late = line.come("late", model_ref="busy")

    assert late in line.queue.heads("busy", 2)


def test_a_session_that_waits_for_one_model_is_not_last_at_another() -> None:
    line = Line()
    for _ in range(100):
        line.come("a", model_ref="busy")
    for _ in range(100):
        line.come("b", model_ref="free")

    first = line.come("a", model_ref="free")

    assert first in line.queue.heads("free", 2)


def _served(steps: list[Step], *, alone: str | None) -> list[str]:
    """Return what was served of a model by the names its jobs got as they came; *alone* leaves out all others."""
    line, now_ms = Line(), 0
    names: dict[JobId, str] = {}
    gone: dict[str, list[Ticket]] = {"x": [], "y": [], "z": []}
    served: list[str] = []
    for number, (step, model_ref, session, priority) in enumerate(steps):
        if step == "pass time":
            now_ms += PROMOTE_AFTER_MS // 2
            line.queue.promote(now_ms=now_ms)
        if alone not in {None, model_ref}:
            continue
        heads = line.queue.heads(model_ref, 10**6)
        if step == "come":
            wanted: Priority = "batch" if priority == "batch" else "interactive"
            names[line.come(session, priority=wanted, model_ref=model_ref, now_ms=now_ms).id] = f"job {number}"
        elif step == "serve" and heads:
            line.queue.take(heads[0].id)
            gone[model_ref].append(heads[0])
            served += [names[heads[0].id]] if model_ref == "x" else []
        elif step == "cancel" and heads:
            line.queue.remove(heads[-1].id)
        elif step == "retry" and gone[model_ref]:
            line.queue.add(gone[model_ref].pop())
    return served + [names[ticket.id] for ticket in line.queue.heads("x", 10**6)]


@settings(max_examples=200)
@given(STEPS)
def test_the_jobs_of_a_model_are_served_as_if_there_were_no_other(steps: list[Step]) -> None:
    assert _served(steps, alone=None) == _served(steps, alone="x")
