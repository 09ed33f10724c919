"""Asking a pool for downloads, following them, and looking at what is on its disk afterwards."""

from __future__ import annotations

from pathlib import Path

from llorch.client import Client
from llorch.wire.codec import decode_reply
from llorch.wire.events import Failed
from llorch.wire.models import Download, Started
from llorch.wire.pools import Model, ModelList
from roles.pool.model_cache.pace import Patience
from tests.support.hub import Hub

REPO = "org/tiny-GGUF"
FILE = "tiny.Q4_K_M.gguf"
HASTY = Patience(first_s=0.05, longest_s=0.1, tries=5)


def model_file(data: Path, hub: Hub, repo: str = REPO, path: str = FILE) -> Path:
    """Return where a model belongs."""
    return data / "models" / f"models--{repo.replace('/', '--')}" / "snapshots" / hub.repos[repo].commit / path


def assert_right(data: Path, hub: Hub, repo: str = REPO, path: str = FILE) -> None:
    """The file is in place and its bytes are the hub's; nothing else is left."""
    assert model_file(data, hub, repo, path).read_bytes() == hub.repos[repo].files[path]
    assert leftovers(data) == []


def assert_absent(data: Path, hub: Hub, repo: str = REPO, path: str = FILE) -> None:
    """Nothing of the file is there."""
    assert not model_file(data, hub, repo, path).exists()
    assert leftovers(data) == []


def leftovers(data: Path) -> list[str]:
    """Return what is neither a model nor a folder."""
    found = [path for path in (data / "models").rglob("*") if path.is_file() and path.suffix != ".gguf"]
    return [str(path) for path in [*found, *(data / "downloads").glob("*.json")]]


async def ask(client: Client, ref: str, **more: object) -> Started:
    """Ask for a download."""
    return await client.send("POST", "/v2/models/download", Started, body={"model_ref": ref, **more})


async def follow(client: Client, started: Started) -> tuple[list[Download], Download | Failed]:
    """Return the progress of a download, and how it ended."""
    progress: list[Download] = []
    async for event in client.events(started.events_url):
        if event.kind == "progress":
            progress.append(decode_reply(event.data, Download))
        elif event.kind == "complete":
            return progress, decode_reply(event.data, Download)
        else:
            return progress, decode_reply(event.data, Failed)
    raise AssertionError("the stream ended without an end")


async def fetch(client: Client, ref: str, **more: object) -> Download | Failed:
    """Download to the end."""
    return (await follow(client, await ask(client, ref, **more)))[1]


async def until_state(client: Client, started: Started, *states: str) -> Download:
    """Return a download as first seen in one of *states*."""
    async for event in client.events(started.events_url):
        view = decode_reply(event.data, Download)
        if view.state in states:
            return view
    raise AssertionError(f"it ended without being {states}")


async def until_some_came(client: Client, started: Started) -> Download:
    """Return a download as first seen with something of it on the disk."""
    async for event in client.events(started.events_url):
        view = decode_reply(event.data, Download)
        if view.state == "downloading" and view.bytes_done > 0:
            return view
    raise AssertionError("nothing came")


async def listed(client: Client) -> list[Model]:
    """Return the models of the pool that are not built in."""
    found = await client.send("GET", "/v2/models", ModelList)
    return [model for model in found.models if not model.model_ref.startswith("file:/builtin/")]
