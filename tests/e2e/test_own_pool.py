"""`llorch pool models …` on a host where no pool runs: the command is the pool for as long as it takes."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.processes import complaint, pool_role, run, until
from tests.e2e.terminal import terminal
from tests.support.downloading import FILE, REPO, assert_right
from tests.support.hub import Hub, running_hub
from tests.support.models import Shape, make

MIDDLING = Shape(n_embd=128, n_layer=4, n_head=4, n_ff=384)
"""About 4 MB: a few pieces of what is written at once."""


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        hub.add(REPO, {FILE: make(tmp_path / "source.gguf", MIDDLING)})
        yield hub


@pytest.fixture(name="env")
def _env(tmp_path: Path) -> dict[str, str]:
    """Return what makes a host without a pool, with a data directory of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return {"LLORCH_POOL_PORT": port, "LLORCH_POOL_DATA_DIR": str(tmp_path / "pool"), "XDG_CONFIG_HOME": str(tmp_path)}


async def arrived(data: Path) -> bool:
    """Tell whether something of a model is on the disk."""
    return any(file.is_file() and file.stat().st_size for file in (data / "models").rglob("*"))


async def test_a_model_is_fetched_listed_verified_and_deleted(tmp_path: Path, hub: Hub, env: dict[str, str]) -> None:
    models = ("pool", "models")
    fetched = await run(*models, "download", f"hf:{REPO}", env=env)
    assert_right(tmp_path / "pool", hub)
    listed = await run(*models, "list", "--json", env=env)
    verified = await run(*models, "verify", f"hf:{REPO}", env=env)
    deleted = await run(*models, "delete", f"hf:{REPO}", env=env)
    after = await run(*models, "list", "--json", env=env)

    assert (fetched.status, fetched.stdout) == (0, hub.ref(REPO, FILE) + "\n"), fetched.stderr
    assert hub.ref(REPO, FILE) in [model["model_ref"] for model in json.loads(listed.stdout)["models"]]
    assert verified.status == 0, verified.stderr
    assert "came free" in deleted.stdout, deleted.stderr
    assert [model["model_ref"] for model in json.loads(after.stdout)["models"]] == ["file:/builtin/haiku.gguf"]


async def test_what_came_before_an_interruption_is_not_fetched_again(
    tmp_path: Path, hub: Hub, env: dict[str, str]
) -> None:
    hub.faults.hold_at = 0.5
    download = ("pool", "models", "download", f"hf:{REPO}")
    async with terminal(*download, env=env) as shown:
        await until(functools.partial(arrived, tmp_path / "pool"))
        os.killpg(shown.process.pid, signal.SIGINT)
        status = await shown.ended()
    hub.faults.hold_at = None
    again = await run(*download, env=env)

    assert status == 130
    assert "what has come is kept, and the same command goes on with it" in shown.seen
    assert again.status == 0, again.stderr
    assert [start > 0 for kind, _, start, _ in hub.seen if kind == "get"] == [False, True]
    assert_right(tmp_path / "pool", hub)


async def test_nothing_can_go_on_without_the_command(hub: Hub, env: dict[str, str]) -> None:
    finished = await run("pool", "models", "download", f"hf:{REPO}", "--detach", env=env)

    assert (finished.status, finished.stdout) == (1, "")
    assert "no pool runs here that would go on with it" in complaint(finished.stderr)
    assert hub.count("get") == 0


async def test_the_data_of_a_pool_that_listens_elsewhere_is_left_alone(tmp_path: Path, env: dict[str, str]) -> None:
    async with pool_role(tmp_path, ""):
        finished = await run("pool", "models", "list", env=env)

    assert finished.status == 1
    assert complaint(finished.stderr) == (
        f"another pool uses the data directory {tmp_path / 'pool'}; stop it, ask that one (--pool-url URL), "
        "or choose another directory: [pool] data_dir or LLORCH_POOL_DATA_DIR"
    )
