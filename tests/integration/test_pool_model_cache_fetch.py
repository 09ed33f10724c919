"""The fetching process by itself: that it never outlives the pipe to its pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from llorch import program
from llorch.errors import ModelNotFound
from roles.pool.model_cache.fetch import COMMAND, Order, fetch
from tests.support.downloading import FILE, REPO
from tests.support.hub import Hub, running_hub
from tests.support.models import make


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        hub.add(REPO, {FILE: make(tmp_path / "source.gguf")})
        yield hub


def order(tmp_path: Path, hub: Hub) -> Order:
    return Order(
        model_ref=hub.ref(REPO, FILE), folder=str(tmp_path / "m"), partial=str(tmp_path / "m" / ".p"), sources=[]
    )


async def test_it_ends_with_the_pipe_to_its_pool(tmp_path: Path, hub: Hub) -> None:
    hub.faults.hold_at = 0.3
    process = await asyncio.create_subprocess_exec(
        *program.command(COMMAND), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(order(tmp_path, hub)) + b"\ngo\n")
    await hub.holding.wait()

    process.stdin.close()

    assert await process.wait() == 1


def test_what_is_on_no_hub_is_not_fetched(tmp_path: Path) -> None:
    wrong = Order(model_ref="file:/m.gguf", folder=str(tmp_path), partial=str(tmp_path / "p"), sources=[])

    with pytest.raises(ModelNotFound):
        fetch(wrong, lambda _: None, lambda: None)
