"""What a person is told about pools and workers that get no work."""

from __future__ import annotations

from llorch.cli.pool_view import pool_notes, worker_notes
from llorch.wire.pools import Disk, Pool, PoolStatus, Worker


def worker(worker_id: str, status: str, protocol: int) -> Worker:
    return Worker(
        worker_id=worker_id,
        model_ref="file:/m.gguf",
        status=status,  # type: ignore[arg-type]  # one of its literals
        backend="cpu",
        engine="llamacpp",
        device="cpu",
        slots=1,
        slots_busy=1,
        context_length=64,
        memory_bytes=1,
        started_ms=0,
        protocol=protocol,
    )


def test_a_worker_that_only_finishes_its_jobs_is_told_with_the_reason() -> None:
    workers = [worker("old", "draining", 1), worker("stopped", "draining", 2), worker("gone", "stopped", 1)]
    status = PoolStatus(
        pool_id="p",
        version="1",
        uptime_s=1,
        draining=False,
        devices=[],
        workers=workers,
        models=[],
        disk=Disk(1, 1),
        protocol=2,
    )

    assert worker_notes(status) == [
        (
            "worker old speaks version 1 of the workers' protocol, and its pool version 2: "
            "it finishes its jobs and then ends; new ones get a new worker"
        )
    ]


def test_a_pool_that_gets_no_work_is_told_with_the_reason_and_what_to_do() -> None:
    known = {"endpoint": "http://h:1", "version": "1", "last_seen_ms": 0, "devices": [], "models": [], "workers": []}
    fine = Pool(pool_id="fine", status="online", **known)  # type: ignore[arg-type]  # each under its own name
    old = Pool(pool_id="old", status="draining", trouble="it is old", remedy="do this", **known)  # type: ignore[arg-type]

    assert pool_notes([fine, old]) == ["pool old gets no work: it is old; do this"]
