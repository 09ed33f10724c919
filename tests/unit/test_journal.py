"""The decision log: bounded, only what is news, and good for deciding again."""

from __future__ import annotations

from msgspec.structs import replace

from llorch.policy import ModelPolicy
from roles.orchestrator.scheduler.decide import decide
from roles.orchestrator.scheduler.decisions import Dispatch, Hold, Wait
from roles.orchestrator.scheduler.journal import KEEP, Journal, replay
from roles.orchestrator.scheduler.snapshot import Pause, Snapshot, WorkerView


def serving(job_id: str, now_ms: int = 0) -> Snapshot:
    """Return a snapshot in which one job waits and one worker is free."""
    worker = WorkerView(worker_id="w", pool_id="p", free_slots=1, leases=0, memory_free_bytes=1)
    return Snapshot(now_ms=now_ms, model_ref="m", heads=(job_id,), workers=(worker,), slots=1)


def test_waiting_is_noted_when_its_reason_changes_and_not_at_every_look() -> None:
    journal = Journal()
    nobody = Snapshot(now_ms=0, model_ref="m")
    busy = Snapshot(now_ms=1, model_ref="m", slots=1, busy=1, online=1)

    news = [journal.note(snapshot, decide(snapshot)) for snapshot in (nobody, nobody, busy, busy, nobody)]

    assert news == [True, False, True, False, True]
    assert isinstance(journal.wait("m"), Wait)


def test_why_a_worker_without_jobs_is_not_there_is_noted_once_and_is_not_what_a_job_waits_for() -> None:
    journal = Journal()
    pause = Pause(pool_id="p", device="d", code="WORKER_LOST", reason="it broke", deaths=1, until_ms=2_000)
    paused = Snapshot(now_ms=0, model_ref="m", waiting=0, policy=ModelPolicy(min_replicas=1), online=1, pauses=(pause,))

    news = [journal.note(snapshot, decide(snapshot)) for snapshot in (paused, replace(paused, now_ms=1_000))]

    (entry,) = journal.entries(10)
    assert news == [True, False]
    assert (journal.wait("m"), journal.last("m")) == (None, None)
    assert [type(decision) for decision in entry.decisions] == [Wait]
    assert replay(entry) == entry.decisions


def test_many_jobs_do_not_push_out_why_workers_came_and_went() -> None:
    journal = Journal()
    first = Snapshot(now_ms=0, model_ref="m")
    journal.note(first, decide(first))

    for n in range(2 * KEEP):
        snapshot = serving(f"j{n}", n)
        journal.note(snapshot, decide(snapshot))

    entries = journal.entries(10**6)
    assert len(entries) == KEEP + 1
    assert entries[0].snapshot == first
    assert [entry.seq for entry in entries] == sorted(entry.seq for entry in entries)
    assert journal.job(f"j{2 * KEEP - 1}") == Dispatch(f"j{2 * KEEP - 1}", "w", "p", 0, 1, 1)
    assert all(replay(entry) == entry.decisions for entry in entries)


def test_a_job_is_held_back_only_until_then_and_as_long_as_that_is_decided() -> None:
    journal = Journal()
    hold = Hold("j", "w", "p", 1_000, 3_000, 2_000)
    journal.note(serving("j", 1_000), [hold])
    while_held = [journal.held("j", now_ms=now_ms) for now_ms in (1_000, 2_999, 3_000)]

    journal.note(serving("another", 1_500), [])
    another = journal.held("j", now_ms=1_500)
    journal.note(serving("j", 1_500), [])

    assert while_held == [hold, hold, None]
    assert another == hold
    assert journal.held("j", now_ms=1_500) is None


def test_the_last_word_on_a_model_goes_when_its_jobs_have_gone() -> None:
    journal = Journal()
    nobody = Snapshot(now_ms=0, model_ref="m")
    journal.note(nobody, decide(nobody))

    snapshot = serving("j")
    journal.note(snapshot, decide(snapshot))

    assert journal.last("m") is None
