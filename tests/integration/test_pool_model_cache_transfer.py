"""The pool's side of a fetching process: what it agrees to, and what it stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llorch.errors import DownloadFailed, ModelNotFound
from llorch.wire.models import FileFacts
from roles.pool.model_cache.fetch import Order, Report
from roles.pool.model_cache.transfer import transfer
from tests.support.downloading import FILE, REPO
from tests.support.hub import Hub, running_hub
from tests.support.models import make
from tests.support.open_files import none_left


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        hub.add(REPO, {FILE: make(tmp_path / "source.gguf")})
        yield hub


def order(tmp_path: Path, hub: Hub) -> Order:
    return Order(
        model_ref=hub.ref(REPO, FILE), folder=str(tmp_path / "m"), partial=str(tmp_path / "m" / ".p"), sources=[]
    )


async def test_nothing_is_transferred_before_it_is_agreed_to(tmp_path: Path, hub: Hub) -> None:
    asked_for: list[int] = []
    reports: list[Report] = []

    async def agree(found: list[FileFacts]) -> None:
        asked_for.append(hub.count("get"))
        assert [file.path for file in found] == [FILE]

    proven = await transfer(order(tmp_path, hub), agree=agree, heard=reports.append)

    assert asked_for == [0]
    assert [file.size_bytes for file in proven] == [len(hub.repos[REPO].files[FILE])]
    assert "progress" in {report.kind for report in reports}


async def test_a_process_that_cannot_be_started_is_a_try_that_failed(tmp_path: Path, hub: Hub) -> None:
    async def agree(_found: list[FileFacts]) -> None:
        raise AssertionError("there was a process")

    with none_left(), pytest.raises(DownloadFailed, match="Too many open files") as caught:
        await transfer(order(tmp_path, hub), agree=agree, heard=lambda _: None)
    assert caught.value.retriable


async def test_an_objection_ends_the_process(tmp_path: Path, hub: Hub) -> None:
    async def agree(_found: list[FileFacts]) -> None:
        raise ModelNotFound("changed my mind")

    with pytest.raises(ModelNotFound, match="changed my mind"):
        await transfer(order(tmp_path, hub), agree=agree, heard=lambda _: None)
    assert hub.count("get") == 0
