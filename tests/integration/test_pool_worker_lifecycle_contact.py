"""A worker that does not answer is a fact, not an error."""

from __future__ import annotations

from pathlib import Path

from roles.pool.worker_lifecycle import contact
from tests.support.pools import running_pool


async def test_nobody_there_is_no_health_and_no_shutdown() -> None:
    assert await contact.health("http://127.0.0.1:1", "t") is None
    assert not await contact.shut_down("http://127.0.0.1:1", "t", drain_s=1)


async def test_another_token_is_no_health(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        report = await pool.listener.until_worker(await pool.spawn(), "ready")
        url = str(report.uri)

        good, bad = await contact.health(url, report.token), await contact.health(url, "wrong")

        assert good is not None
        assert good.worker_id == report.worker_id
        assert bad is None
