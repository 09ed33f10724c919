"""How long no replica is started where one has died: longer with every short life, not at all after a long one."""

from __future__ import annotations

import pytest
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from llorch.policy import ModelPolicy
from llorch.wire.pools import WorkerReport
from roles.orchestrator.scheduler.deaths import LONG_LIFE_MS, Deaths
from roles.orchestrator.scheduler.decisions import Wait
from roles.orchestrator.scheduler.facts import Facts
from roles.orchestrator.scheduler.snapshot import Pause
from roles.orchestrator.scheduler.supply import Supply
from tests.support.supplies import NOW_MS, decided, started
from tests.support.worlds import device, model, report

TOLD_MS = 5_000_000
"""The same moment by the pool's clock."""


def dead(*, lived_ms: int, name: str = "w", device_id: str = "d", error: str = "it broke") -> WorkerReport:
    """Return a worker that is told at `TOLD_MS` to have failed, when it had been ready for so long."""
    worker = report(name, "m", status="failed", device_id=device_id)
    return replace(worker, ready_ms=TOLD_MS - lived_ms, error=error, error_code="ENGINE_FAILED")


def alive(*, for_ms: int, device_id: str = "d", status: str = "ready") -> WorkerReport:
    """Return a worker that is told at `TOLD_MS` to have been ready for so long."""
    return replace(report("v", "m", status=status, device_id=device_id), ready_ms=TOLD_MS - for_ms)


def heard(known: Deaths, *workers: WorkerReport, told_ms: int = TOLD_MS) -> None:
    known.heard("p", workers, told_ms=told_ms, now_ms=NOW_MS)


def known_pool() -> Deaths:
    """Return what is known after a pool without workers has registered."""
    known = Deaths()
    known.heard("p", [], told_ms=0, now_ms=NOW_MS, anew=True)
    return known


def die(known: Deaths, lived_ms: int) -> int:
    """Let a worker die; return the seconds in which no other is started."""
    heard(known, dead(lived_ms=lived_ms))
    heard(known, dead(lived_ms=lived_ms))
    seconds = [s for s in range(200) if known.blocked("m", now_ms=NOW_MS + 1_000 * s) == {("p", "d")}]
    assert seconds == list(range(len(seconds)))
    heard(known)
    return len(seconds)


def test_pauses_double_with_each_short_life_and_a_long_one_ends_them() -> None:
    known = known_pool()

    pauses = [die(known, ms) for ms in (1, LONG_LIFE_MS - 1, 1, *[1] * 5, LONG_LIFE_MS, 1)]

    assert pauses == [2, 4, 8, 16, 32, 64, 120, 120, 0, 2]


def test_a_worker_that_came_and_died_between_two_reports_counts_and_one_that_was_never_ready_does_not() -> None:
    known = known_pool()
    heard(known, replace(dead(lived_ms=1), ready_ms=UNSET))
    unready = known.blocked("m", now_ms=NOW_MS)

    heard(known, dead(lived_ms=1, name="w2"))

    assert unready == set()
    assert known.blocked("m", now_ms=NOW_MS) == {("p", "d")}


@pytest.mark.parametrize("status", ["ready", "busy", "draining"])
def test_a_worker_that_goes_on_living_ends_the_row_where_it_is_and_nowhere_else(status: str) -> None:
    known = known_pool()
    for n in range(3):
        heard(known, *(dead(lived_ms=1, name=f"{device}{n}", device_id=device) for device in ("d", "e")))

    heard(known, alive(for_ms=LONG_LIFE_MS - 1, status=status))
    young = known.blocked("m", now_ms=NOW_MS)
    heard(known, alive(for_ms=LONG_LIFE_MS, status=status))
    old = known.blocked("m", now_ms=NOW_MS)
    heard(known, *(dead(lived_ms=1, name=f"{device}4", device_id=device) for device in ("d", "e")))

    assert (young, old) == ({("p", "d"), ("p", "e")}, {("p", "e")})
    assert [pause.deaths for pause in known.pauses("m", now_ms=NOW_MS)] == [4, 1]


@pytest.mark.parametrize(("told_ms", "ready_ms"), [(0, TOLD_MS - 1), (TOLD_MS, UNSET)])
def test_a_worker_whose_age_nobody_knows_ends_no_row(told_ms: int, ready_ms: int | UnsetType) -> None:
    known = known_pool()
    heard(known, dead(lived_ms=1))

    heard(known, replace(alive(for_ms=1), ready_ms=ready_ms), told_ms=told_ms)

    assert known.blocked("m", now_ms=NOW_MS) == {("p", "d")}


def test_a_pool_that_registers_anew_may_start_at_once_and_the_next_death_goes_on_with_the_row() -> None:
    known = known_pool()
    known.heard("q", [], told_ms=0, now_ms=NOW_MS, anew=True)
    for pool_id in ("p", "q"):
        known.heard(pool_id, [dead(lived_ms=1)], told_ms=TOLD_MS, now_ms=NOW_MS)

    known.heard("p", [dead(lived_ms=1), dead(lived_ms=1, name="meanwhile")], told_ms=0, now_ms=NOW_MS, anew=True)
    mended = known.blocked("m", now_ms=NOW_MS)
    heard(known, dead(lived_ms=1, name="meanwhile"), dead(lived_ms=1, name="again"))

    assert mended == {("q", "d")}
    assert [(pause.pool_id, pause.deaths) for pause in known.pauses("m", now_ms=NOW_MS)] == [("p", 2), ("q", 1)]


def test_what_had_failed_before_a_pool_came_is_not_meant_nor_what_a_pool_had_that_is_gone() -> None:
    known = Deaths()
    heard(known, dead(lived_ms=1))
    before = known.blocked("m", now_ms=NOW_MS)
    heard(known)

    pause_s = die(known, 1)
    known.leave("p")

    assert (before, pause_s) == (set(), 2)
    assert known.blocked("m", now_ms=NOW_MS) == set()


def test_a_pause_that_begins_is_told_once_and_stays_to_be_read_until_it_ends() -> None:
    known = known_pool()
    heard(known, dead(lived_ms=1))
    pause = Pause(pool_id="p", device="d", code="ENGINE_FAILED", reason="it broke", deaths=1, until_ms=NOW_MS + 2_000)

    told = [known.begun(), known.begun()]

    assert told == [[("m", pause)], []]
    assert [known.pauses("m", now_ms=NOW_MS + ms) for ms in (1_999, 2_000)] == [(pause,), ()]


def test_a_replica_is_started_again_when_its_pause_is_over_or_its_pool_registers_and_for_a_job_at_once() -> None:
    known, devices, models = Supply({"m": ModelPolicy(min_replicas=1)}, ModelPolicy()), [device()], [model("m")]
    known.hear("p", Facts(devices=devices, models=models), now_ms=NOW_MS, anew=True)
    broken = Facts(devices=devices, models=models, workers=[dead(lived_ms=1)], told_ms=TOLD_MS)
    known.hear("p", broken, now_ms=NOW_MS)

    paused, job = decided(known, waiting=0), started(decided(known))
    over = started(decided(known, waiting=0, now_ms=NOW_MS + 2_000))
    known.hear("p", broken, now_ms=NOW_MS, anew=True)
    mended = started(decided(known, waiting=0))

    text = (
        "the last worker on d of pool p died soon after it was ready (it broke), in a row: 1; the next one is started "
        "in 2 s, or when a job comes"
    )
    assert paused == [Wait("m", "pause", text)]
    assert job == over == mended == [("p", "d")]
