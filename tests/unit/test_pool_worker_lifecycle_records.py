"""How what is known of a worker changes with what is seen of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import UNSET
from msgspec.structs import replace as changed

from llorch.wire.pools import Backend
from llorch.wire.protocol import PROTOCOL
from llorch.wire.workers import Ready, WorkerHealth
from roles.pool.worker_lifecycle import records
from roles.pool.worker_lifecycle.preflight import Plan
from roles.pool.worker_lifecycle.records import Record
from roles.pool.worker_lifecycle.split import Share

STARTING = Record(
    worker_id="w",
    model_ref="file:/m",
    plan=Plan("cpu", "cpu", "llamacpp", 4, 512, 1000),
    started_ms=1,
    weights_bytes=900,
    token="secret",
    memory_bytes=1000,
)
BODY = Ready(
    worker_id="w",
    model_ref="file:/m",
    uri="http://127.0.0.1:5000",
    memory_bytes=1200,
    memory_architecture="system",
    backend="cpu",
    engine="llamacpp",
    capabilities=["text-gen"],
    slots=3,
    context_length=256,
)
READY = records.ready(STARTING, BODY, now_ms=50)


def health(*, slots_busy: int = 0, progress: float = 100.0) -> WorkerHealth:
    return WorkerHealth(
        status="ready",
        worker_id="w",
        model="m",
        model_ref="file:/m",
        resident=True,
        progress=progress,
        quant_kind="F16",
        vocab_size=1,
        context_length=256,
        memory_bytes=1200,
        slots=3,
        slots_busy=slots_busy,
        tokens_per_second=0.0,
        uptime_s=0.0,
        capabilities=[],
        protocol=1,
        engine="llamacpp",
        backend="cpu",
    )


def test_a_ready_worker_tells_its_own_numbers_instead_of_the_planned_ones() -> None:
    before, after = records.view(STARTING), records.view(READY)

    assert (before.slots, before.context_length, before.memory_bytes, before.uri) == (4, 512, 1000, UNSET)
    assert (after.slots, after.context_length, after.memory_bytes, after.uri) == (3, 256, 1200, BODY.uri)


@pytest.mark.parametrize("backend", ["cuda", "metal"])
def test_a_worker_on_a_gpu_keeps_its_estimate_until_the_driver_tells_what_it_holds(backend: Backend) -> None:
    on_gpu = replace(STARTING, plan=Plan(f"{backend}:0", backend, "llamacpp", 4, 512, 1000))

    loaded = records.ready(on_gpu, BODY, now_ms=50)  # it told of its RAM
    known = records.measured(loaded, 777)

    assert (loaded.memory_bytes, known.memory_bytes) == (1000, 777)
    assert records.measured(known, 0) is known
    assert records.measured(replace(known, status="stopped"), 5).memory_bytes == 777
    assert records.noteworthy(loaded, known)


def test_a_worker_over_several_gpus_holds_of_each_what_it_was_given_until_it_is_measured() -> None:
    shares = (Share("cuda:0", 3, 600), Share("cuda:1", 2, 400))
    laid = replace(STARTING, plan=Plan("cuda:0", "cuda", "llamacpp", 4, 512, 1000, shares))

    measured = records.measured(records.ready(laid, BODY, now_ms=50), 800)

    assert dict(laid.held_bytes) == {"cuda:0": 600, "cuda:1": 400}
    assert dict(measured.held_bytes) == records.view(measured).shares == {"cuda:0": 480, "cuda:1": 320}
    assert [(c.device, c.memory_bytes) for c in laid.commitments(pending=True)] == [("cuda:0", 600), ("cuda:1", 400)]
    assert (records.view(STARTING).shares, dict(STARTING.held_bytes)) == ({}, {"cpu": 1000})


def test_a_worker_that_was_taken_over_and_speaks_another_version_takes_no_more_jobs_and_finishes_its_own() -> None:
    other = replace(READY, protocol=PROTOCOL + 1)
    loading = replace(STARTING, protocol=PROTOCOL + 1)

    taken = [records.adopted(record, 7) for record in (READY, other, loading)]

    assert [record.status for record in taken] == ["ready", "draining", "starting"]
    assert [records.finishes(record) for record in taken] == [False, True, False]


def test_a_worker_of_another_version_is_condemned_before_it_has_a_job() -> None:
    ready = records.ready(STARTING, changed(BODY, protocol=PROTOCOL + 1), now_ms=50)
    lost = records.misunderstood(replace(STARTING, protocol=ready.protocol))

    assert (ready.protocol, records.view(ready).protocol) == (PROTOCOL + 1, PROTOCOL + 1)
    assert lost.condemned is not None
    assert "restart the pool" in lost.condemned[1]


def test_how_long_a_worker_loaded_is_told_on() -> None:
    told = records.ready(STARTING, changed(BODY, load_ms=640), now_ms=50)

    assert (records.view(told).load_ms, records.view(READY).load_ms) == (640, 0)


@pytest.mark.parametrize(
    ("record", "slots_busy", "status"),
    [
        (READY, 0, "ready"),
        (READY, 1, "busy"),
        (replace(READY, status="busy"), 0, "ready"),
        (replace(READY, status="draining"), 1, "draining"),
        (STARTING, 0, "starting"),
    ],
)
def test_health_tells_ready_from_busy_and_nothing_else(record: Record, slots_busy: int, status: str) -> None:
    assert records.healthy(record, health(slots_busy=slots_busy)).status == status


def test_progress_never_goes_back() -> None:
    half = records.healthy(STARTING, health(progress=50.0))

    assert records.healthy(half, health(progress=20.0)).progress == 50.0


def test_three_misses_in_a_row_condemn_a_worker() -> None:
    twice = records.missed(records.missed(READY))
    answered = records.healthy(twice, health())

    assert twice.condemned is None
    assert records.missed(twice).condemned == ("WORKER_LOST", "it did not answer 3 health checks")
    assert records.missed(answered).condemned is None


@pytest.mark.parametrize(
    ("record", "code", "status", "error_code", "error", "reason"),
    [
        (STARTING, 1, "failed", "ENGINE_FAILED", "out of memory (exit status 1)", "start_failed"),
        (STARTING, 0, "failed", "ENGINE_FAILED", "out of memory (exit status 0)", "start_failed"),
        (READY, -9, "failed", "WORKER_LOST", "out of memory (killed by signal 9)", "crashed"),
        (READY, 0, "stopped", "", "", "exited"),
        (replace(STARTING, status="draining"), -15, "stopped", "", "", "requested"),
        (replace(READY, status="draining"), -9, "stopped", "", "", "requested"),
        (records.condemned(STARTING, "STARTUP_TIMEOUT", "slow"), -9, "failed", "STARTUP_TIMEOUT", "slow", None),
        (records.condemned(READY, "WORKER_LOST", "deaf"), -9, "failed", "WORKER_LOST", "deaf", "unhealthy"),
    ],
)
def test_how_a_worker_ended_depends_on_what_was_wanted_of_it(
    record: Record, code: int, status: str, error_code: str, error: str, reason: str | None
) -> None:
    after = records.exited(record, code, last_line="out of memory", now_ms=99)

    assert (after.status, after.error_code, after.error) == (status, error_code, error)
    assert (after.exit_code, after.ended_ms, after.live) == (code, 99, False)
    assert records.end_reason(record, after) == (reason or "startup_timeout")


def test_the_first_reason_to_end_a_worker_stays() -> None:
    once = records.condemned(READY, "WORKER_LOST", "deaf")

    assert records.condemned(once, "STARTUP_TIMEOUT", "slow") == once


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("plain words", "plain words"),
        ('{"event": "failed", "error": "no file"}', "no file"),
        ('{"event": "failed"}', "failed"),
        ('{"level": "error"}', ""),
        ("[1, 2]", "[1, 2]"),
        ("", ""),
        ("x" * 1000, "x" * 500),
    ],
)
def test_the_reason_is_what_the_last_line_says(line: str, reason: str) -> None:
    assert records.reason_of(line) == reason


def test_small_steps_of_progress_are_not_worth_a_message() -> None:
    assert not records.noteworthy(STARTING, replace(STARTING, progress=9.0))
    assert records.noteworthy(STARTING, replace(STARTING, progress=10.0))
    assert records.noteworthy(STARTING, READY)
    assert not records.noteworthy(READY, replace(READY, slots_busy=2))


@pytest.mark.parametrize(
    ("uri", "host", "seen"),
    [
        ("http://127.0.0.1:5000", "pool.example", "http://pool.example:5000"),
        ("http://127.0.0.1:5000", "fd00::1", "http://[fd00::1]:5000"),
        ("http://127.0.0.1:5000", "", "http://127.0.0.1:5000"),
    ],
)
def test_others_reach_a_worker_by_the_address_of_its_pool(uri: str, host: str, seen: str) -> None:
    assert records.seen_from_outside(uri, host) == seen


def test_only_a_report_has_the_token() -> None:
    report = records.report(READY, host="pool.example")

    assert (report.token, report.uri, report.status) == ("secret", "http://pool.example:5000", "ready")
    assert not hasattr(records.view(READY), "token")
    assert "secret" not in repr(READY)
