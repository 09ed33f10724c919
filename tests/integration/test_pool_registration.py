"""A running pool that is told of another orchestrator: it moves there, or stays where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.errors import Conflict, RemoteError
from llorch.serve import running
from llorch.wire.pools import JoinOrchestrator, PoolStatus
from tests.support.pools import Listener, Running, running_pool

NOWHERE = "http://127.0.0.1:1"


async def join(pool: Running, url: str) -> PoolStatus:
    """Tell a pool of an orchestrator."""
    return await pool.client.send("POST", "/v2/orchestrator", PoolStatus, body=JoinOrchestrator(url=url))


async def test_a_pool_moves_to_the_orchestrator_that_it_is_told_of(tmp_path: Path) -> None:
    other = Listener(interval_ms=20)
    async with running(other.create(), "127.0.0.1", 0) as second, running_pool(tmp_path) as pool:
        await pool.listener.until(lambda: pool.listener.registrations or None)
        told = await join(pool, second + "/")
        await other.until(lambda: other.heartbeats or None)
        await pool.listener.until(lambda: pool.listener.goodbyes or None)
        before = len(pool.listener.heartbeats)
        worker_id = await pool.spawn()
        await other.until_worker(worker_id, "ready")
        status = await pool.client.send("GET", "/v2/status", PoolStatus)
        left = pool.listener.goodbyes

    assert (told.orchestrator, status.orchestrator, status.registered) == (second, second, True)
    assert (left, len(pool.listener.heartbeats)) == (1, before)
    assert other.goodbyes == 1


async def test_a_pool_without_an_orchestrator_gets_one(tmp_path: Path) -> None:
    listener = Listener(interval_ms=20)
    async with running(listener.create(), "127.0.0.1", 0) as url, running_pool(tmp_path, orchestrator="") as pool:
        alone = await pool.client.send("GET", "/v2/status", PoolStatus)
        await join(pool, url)
        await listener.until(lambda: listener.heartbeats or None)
        again = await join(pool, url)

    assert (alone.registered, again.registered) == (False, True)
    assert listener.goodbyes == 1


async def test_a_pool_stays_where_it_is_when_the_other_is_away_or_refuses(tmp_path: Path) -> None:
    other = Listener()
    other.refusal = Conflict("another pool has that name")
    async with running(other.create(), "127.0.0.1", 0) as second, running_pool(tmp_path) as pool:
        await pool.listener.until(lambda: pool.listener.registrations or None)
        with pytest.raises(RemoteError) as away:
            await join(pool, NOWHERE)
        with pytest.raises(RemoteError) as refused:
            await join(pool, second)
        status = await pool.client.send("GET", "/v2/status", PoolStatus)
        goodbyes = pool.listener.goodbyes

    assert (away.value.code, refused.value.code) == ("UNREACHABLE", "CONFLICT")
    assert "another pool has that name" in refused.value.message
    assert (status.orchestrator != second, status.registered, goodbyes) == (True, True, 0)
