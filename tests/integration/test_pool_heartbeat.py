"""What a pool tells its orchestrator, and when; against a real server that only listens."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import psutil
import pytest

from llorch import config
from llorch.client import Client
from llorch.errors import Conflict
from llorch.models import HAIKU_REF
from llorch.serve import running
from llorch.wire.pools import Model, PoolStatus, Register
from roles.pool import app, heartbeat
from roles.pool.model_cache.library import Library
from tests.support.pools import Listener, running_pool


def again(listener: Listener, count: int) -> Register | None:
    """Return the registration that makes *count*, once it is there."""
    return listener.registrations[count - 1] if len(listener.registrations) >= count else None


async def test_a_pool_registers_with_its_address_and_says_goodbye(tmp_path: Path) -> None:
    async with running_pool(tmp_path, pool_id="here") as pool:
        body = await pool.listener.until(lambda: again(pool.listener, 1))

        assert (body.pool_id, body.endpoint, body.takeover) == ("here", pool.url, False)
        assert body.devices[0].id == "cpu"
        assert [model.aliases for model in body.models] == [["haiku"]]

    assert pool.listener.goodbyes == 1


async def test_an_advertised_address_is_also_that_of_the_workers(tmp_path: Path) -> None:
    async with running_pool(tmp_path, advertise="http://pool.example:1234/") as pool:
        worker_id = await pool.spawn()

        report = await pool.listener.until_worker(worker_id, "ready")

        local = (await pool.worker(worker_id)).uri
        assert pool.listener.registrations[0].endpoint == "http://pool.example:1234"
        assert report.uri == str(local).replace("127.0.0.1", "pool.example")


async def test_a_pool_registers_again_when_it_is_forgotten(tmp_path: Path) -> None:
    async with running_pool(tmp_path, "silent") as pool:
        await pool.listener.until(lambda: again(pool.listener, 1))
        pool.listener.known = False

        worker_id = await pool.spawn()
        body = await pool.listener.until(lambda: again(pool.listener, 2))

        assert [worker.worker_id for worker in body.workers] == [worker_id]


async def test_every_change_is_told_long_before_the_next_heartbeat_is_due(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        worker_id = await pool.spawn()
        await pool.listener.until_worker(worker_id, "ready")
        await pool.stop(worker_id)

        seqs = [beat.seq for beat in pool.listener.heartbeats]
        states = [worker.status for beat in pool.listener.heartbeats for worker in beat.workers]

        assert pool.listener.interval_ms == 60_000
        assert seqs == sorted(set(seqs))
        assert list(dict.fromkeys(states)) in (
            ["starting", "ready", "draining", "stopped"],
            ["starting", "ready", "stopped"],
        )


async def test_heartbeats_go_on_when_nothing_changes(tmp_path: Path) -> None:
    listener = Listener(interval_ms=20)
    async with running(listener.create(), "127.0.0.1", 0) as orchestrator:
        own = {"data_dir": str(tmp_path), "orchestrator": orchestrator}
        async with running(app.create(config.load(env={}, overrides={"pool": own})), "127.0.0.1", 0):
            beats = await listener.until(lambda: listener.heartbeats if len(listener.heartbeats) >= 3 else None)

    assert [beat.draining for beat in beats[:3]] == [False, False, False]


async def test_a_pool_outlasts_an_orchestrator_that_is_away(tmp_path: Path) -> None:
    first, second = Listener(interval_ms=20), Listener(interval_ms=20)
    async with running(first.create(), "127.0.0.1", 0) as orchestrator:
        port = int(orchestrator.rpartition(":")[2])
    own = {"data_dir": str(tmp_path), "orchestrator": orchestrator}

    async with running(app.create(config.load(env={}, overrides={"pool": own})), "127.0.0.1", 0) as url:
        async with Client(url) as client:
            before = await client.send("GET", "/v2/status", PoolStatus)
        async with running(first.create(), "127.0.0.1", port):
            await first.until(lambda: first.heartbeats or None)
        async with running(second.create(), "127.0.0.1", port):
            await second.until(lambda: second.heartbeats or None)
            async with Client(url) as client:
                after = await client.send("GET", "/v2/status", PoolStatus)

    assert (before.registered, after.registered) == (False, True)
    assert after.orchestrator == orchestrator
    assert len(second.registrations) == 1


async def test_a_pool_that_is_refused_keeps_trying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "LONGEST_WAIT_S", 0.05)
    async with running_pool(tmp_path) as pool:
        await pool.listener.until(lambda: again(pool.listener, 1))
        pool.listener.refusal = Conflict("another pool has that name")
        await pool.spawn()
        await pool.listener.until(lambda: pool.listener.refused or None)
        pool.listener.refusal = None

        await pool.listener.until(lambda: again(pool.listener, 2))


async def test_facts_that_cannot_be_had_for_a_moment_are_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Library.models
    troubles: list[Exception] = [OSError(errno.EMFILE, os.strerror(errno.EMFILE)), psutil.AccessDenied(1)]

    async def troubled(library: Library) -> list[Model]:
        if troubles:
            raise troubles.pop()
        return await real(library)

    monkeypatch.setattr(heartbeat, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(Library, "models", troubled)
    async with running_pool(tmp_path) as pool:
        await pool.listener.until(lambda: again(pool.listener, 1))
        troubles.append(Conflict("a model that nobody can name"))
        worker_id = await pool.spawn()
        ready = await pool.listener.until_worker(worker_id, "ready")

    assert troubles == []
    assert ready.model_ref == HAIKU_REF
