"""A hub with a checkpoint in it, and the part of a pool that fetches one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from llorch.models import HubRef
from llorch.wire.models import Download, DownloadModel
from roles.pool.metrics import LifecycleMetrics
from roles.pool.model_cache.catalogue import Catalogue
from roles.pool.model_cache.downloads import Downloads
from roles.pool.model_cache.ledger import DownloadRecord, Ledger, ModelRecord
from roles.pool.model_cache.library import Library
from roles.pool.worker_lifecycle import preflight
from roles.pool.worker_lifecycle.engines import Engines
from tests.support import checkpoints
from tests.support.checkpoints import Variant
from tests.support.downloading import HASTY
from tests.support.hub import Hub, running_hub
from tests.support.models import Shape

REPO = "org/tiny-Instruct"
SHAPE = Shape(n_embd=128, n_layer=4, n_head=4, n_ff=320)
OTHERS = ("pytorch_model.bin", "README.md", "original/consolidated.00.pth", "consolidated.safetensors")


@asynccontextmanager
async def checkpoint_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    """Run a hub with a checkpoint of three files, and files that are none of it beside them."""
    made = checkpoints.make(folder / "source", SHAPE, Variant(files=3))
    async with running_hub(folder / "home", monkeypatch) as hub:
        whole = {path.name: path for path in made.iterdir()}
        hub.add(REPO, {**dict.fromkeys(OTHERS, made / "tokenizer.json"), **whole})
        yield hub


@asynccontextmanager
async def host(data: Path, engines: Callable[[], Engines]) -> AsyncIterator[tuple[Library, Downloads]]:
    """Run what a pool fetches models with, on a host with those engines."""

    async def check(_ref: HubRef) -> None:
        preflight.check_installed("safetensors", engines())

    async with asyncio.TaskGroup() as tasks:
        library = Library(
            Catalogue(data / "models"),
            Ledger(data / "known", ModelRecord),
            in_use=set,
            budget_bytes=0,
            changed=lambda: None,
            clock_ms=lambda: 1,
        )
        downloads = Downloads(
            library,
            Ledger(data / "downloads", DownloadRecord),
            tasks=tasks,
            at_once=1,
            token="",
            metrics=LifecycleMetrics(CollectorRegistry()),
            changed=lambda: None,
            check=check,
            clock_ms=lambda: 1,
            patience=HASTY,
        )
        await library.open()
        await downloads.open()
        yield library, downloads
        await downloads.close()


def with_torch() -> Engines:
    """Return the engines of a host that has the one for checkpoints."""
    return {"llamacpp": frozenset({"cpu"}), "torch": frozenset({"cpu"})}


async def ended(downloads: Downloads, ref: str) -> Download:
    """Fetch a model; return how that ended."""
    started = await downloads.ask(DownloadModel(model_ref=ref))
    return [view async for view in downloads.watch(started.download_id)][-1]


def below(folder: Path) -> list[str]:
    """Return the files in a folder, by their paths there."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
