"""`llorch pool models` as a person uses it, against a local hub, and a job that runs what was fetched."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from llorch.client import Client
from llorch.models import model_id
from llorch.wire.models import Download
from llorch.wire.pools import PoolList
from llorch.wire.tasks import Task
from tests.e2e.processes import clean_environment, orchestrator_role, pool_role, program, role, run, until
from tests.support.downloading import FILE, REPO, model_file
from tests.support.hub import Hub, running_hub
from tests.support.models import make

SAMPLING = ("--prompt", "ba", "--max-tokens", "8")


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        hub.add(REPO, {FILE: make(tmp_path / "source.gguf"), "tiny.Q8_0.gguf": make(tmp_path / "q8.gguf", seed=1)})
        yield hub


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> Path:
    file = tmp_path / "llorch.toml"
    file.write_text(f'[aliases]\ntiny = "hf:{REPO}"\n')
    return file


async def test_a_model_is_fetched_by_its_repository_and_runs(tmp_path: Path, hub: Hub, config: Path) -> None:
    ref = hub.ref(REPO, FILE)
    async with AsyncExitStack() as stack:
        orchestrator = await stack.enter_async_context(orchestrator_role(tmp_path))
        pool = await stack.enter_async_context(pool_role(tmp_path, orchestrator.url))
        at = ("--pool-url", pool.url, "--config", str(config))
        url = ("--url", orchestrator.url)
        fetched = await run("pool", "models", "download", f"hf:{REPO}", *at)
        by_ref = await run("jobs", "submit", "--model", ref, *SAMPLING, *url)
        await hub.stop()
        by_name = await run("jobs", "submit", "--model", f"hf:{REPO}", *SAMPLING, "--json", *url)
        in_use = await run("pool", "models", "delete", "tiny", *at)
        listed = await run("pool", "models", "list", "--json", *at)
        named = await run("pool", "models", "catalog", *at)
        known = await run("pool", "models", "info", "tiny", *at)
        checked = await run("pool", "models", "verify", "tiny", *at)
        used = await run("pool", "models", "disk-usage", "--json", *at)

    assert (fetched.status, fetched.stdout) == (0, f"{ref}\n"), fetched.stderr
    assert by_ref.status == 0, by_ref.stderr
    assert len(by_ref.stdout) > 4
    started = next(e for e in map(json.loads, by_name.stdout.splitlines()) if e["event"] == "started")
    assert started["data"]["model_ref"] == ref
    assert (in_use.status, "a worker uses it" in in_use.stderr) == (1, True)
    assert [m["model_ref"] for m in json.loads(listed.stdout)["models"]][1:] == [ref]
    assert next(row for row in named.stdout.splitlines() if row.startswith("tiny ")).split()[1] != "–"
    assert model_id(ref) in known.stdout
    assert (checked.status, "right" in checked.stdout) == (0, True)
    assert json.loads(used.stdout)["models_bytes"] == len(hub.repos[REPO].files[FILE])


async def test_a_job_for_a_model_that_no_pool_has_has_it_fetched(tmp_path: Path, hub: Hub) -> None:
    hub.faults.hold_at = 0.5
    async with AsyncExitStack() as stack:
        orchestrator = await stack.enter_async_context(orchestrator_role(tmp_path))
        await stack.enter_async_context(pool_role(tmp_path, orchestrator.url))
        job = await orchestrator.submit(model=f"hf:{REPO}@main::file={FILE}", prompt="ba", max_tokens=4)
        stages: set[str] = set()
        kinds: list[str] = []
        async for event in orchestrator.follow(job.job_id):
            kinds.append(event.kind)
            if event.kind == "loading":
                stages.add(json.loads(event.data)["stage"])
                if "downloading" in stages:
                    hub.faults.release.set()
        task = await orchestrator.client.send("GET", f"/v2/tasks/{job.job_id}", Task)

    assert "downloading" in stages
    assert kinds[-1] == "end"
    assert task.model_ref == hub.ref(REPO, FILE)


async def test_a_second_pool_fetches_from_the_first_through_the_orchestrator(tmp_path: Path, hub: Hub) -> None:
    ref = hub.ref(REPO, FILE)
    async with AsyncExitStack() as stack:
        orchestrator = await stack.enter_async_context(orchestrator_role(tmp_path))
        one = await stack.enter_async_context(pool_role(tmp_path, orchestrator.url, "one"))
        two = await stack.enter_async_context(pool_role(tmp_path, orchestrator.url, "two"))
        await run("pool", "models", "download", f"hf:{REPO}", "--pool-url", one.url)
        await until(lambda: _told(orchestrator.client, ref))
        asked = hub.count("get")
        path = "/v2/pools/two/models/download"
        await orchestrator.client.send("POST", path, dict, body={"model_ref": f"hf:{REPO}"})
        view = await until(lambda: _complete(two.client, ref))

    assert view.source == one.url
    assert hub.count("get") == asked == 1
    assert model_file(tmp_path / "two", hub).read_bytes() == hub.repos[REPO].files[FILE]


async def test_a_job_for_a_private_model_is_refused_with_what_to_do(tmp_path: Path, hub: Hub) -> None:
    hub.repos[REPO].token = "hf_right"
    async with orchestrator_role(tmp_path) as orchestrator:
        refused = await run("jobs", "submit", "--model", f"hf:{REPO}", *SAMPLING, "--url", orchestrator.url)

    assert refused.status == 1
    assert "set HF_TOKEN" in refused.stderr
    assert refused.stderr.count("\n") == 1


async def test_ctrl_c_leaves_the_download_to_the_pool_or_cancels_it(tmp_path: Path, hub: Hub) -> None:
    hub.faults.hold_at = 0.3
    ref = hub.ref(REPO, FILE)
    async with role("pool", "--port", "0", "--data-dir", str(tmp_path / "pool"), log=tmp_path / "log") as pool:
        status, stderr = await _interrupted(hub, "--pool-url", pool.url)
        left = await pool.client.send("GET", f"/v2/models/downloads/{model_id(ref)}", Download)
        again, _ = await _interrupted(hub, "--cancel-on-exit", "--pool-url", pool.url)
        gone = await pool.client.send("GET", f"/v2/models/downloads/{model_id(ref)}", Download)

    assert (status, again) == (130, 130)
    assert f"llorch pool models cancel {model_id(ref)}" in stderr
    assert (left.state, gone.state) == ("downloading", "cancelled")


async def test_wrong_use_is_told_in_one_line(tmp_path: Path, hub: Hub) -> None:
    hub.add("org/many", {"a.Q8_0.gguf": tmp_path / "source.gguf", "b.f16.gguf": tmp_path / "source.gguf"})
    mine = make(tmp_path / "mine.gguf")
    async with role("pool", "--port", "0", "--data-dir", str(tmp_path / "pool"), log=tmp_path / "log") as pool:
        at = ("--pool-url", pool.url)
        said = {
            words: await run("pool", "models", *words, *at)
            for words in [
                ("download", "qwem"),
                ("download", "hf:org/many"),
                ("download", f"hf:{REPO}::file=tiny.Q4_K_S.gguf"),
                ("download", "hf:org"),
                ("download", "haiku"),
                ("info", "qwen"),
                ("delete", "haiku"),
                ("cancel", "none"),
                ("register", str(tmp_path / "nothing.gguf")),
            ]
        }
        registered = await run("pool", "models", "register", str(mine), *at)
        unregistered = await run("pool", "models", "unregister", str(mine), *at)
        planned = await run("pool", "models", "download", f"hf:{REPO}", "--dry-run", *at)

    for words, finished in said.items():
        assert (finished.status, finished.stderr.count("\n"), finished.stdout) == (1, 1, ""), (words, finished.stderr)
    assert "did you mean qwen" in said["download", "qwem"].stderr
    assert "a.Q8_0.gguf, b.f16.gguf" in said["download", "hf:org/many"].stderr
    assert f"did you mean {FILE}" in said["download", f"hf:{REPO}::file=tiny.Q4_K_S.gguf"].stderr
    assert registered.stdout == unregistered.stdout == f"file:{mine}\n"
    assert (planned.status, "fits" in planned.stderr, hub.count("get")) == (0, True, 0)


async def _interrupted(hub: Hub, *arguments: str) -> tuple[int, str]:
    """Run a download until the hub holds it, then press Ctrl-C."""
    process = await asyncio.create_subprocess_exec(
        *program(),
        *("pool", "models", "download", f"hf:{REPO}", *arguments),
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        env=clean_environment(),
    )
    assert process.stderr is not None
    said = b""
    while b"%" not in said:  # it follows the download by now
        said += await process.stderr.readline()
    await hub.holding.wait()
    os.kill(process.pid, signal.SIGINT)
    said += await process.stderr.read()
    return await process.wait(), said.decode()


async def _told(client: Client, ref: str) -> bool:
    pools = (await client.send("GET", "/v2/pools", PoolList)).pools
    return any(model.model_ref == ref for pool in pools for model in pool.models)


async def _complete(client: Client, ref: str) -> Download | None:
    view = await client.send("GET", f"/v2/models/downloads/{model_id(ref)}", Download)
    return view if view.state == "complete" else None
