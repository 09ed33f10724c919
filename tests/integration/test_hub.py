"""Names pinned to commits by the real huggingface_hub client against a local hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from llorch.errors import Forbidden, HubUnreachable, ModelNotFound
from llorch.hub import Pins
from tests.support.hub import Hub, running_hub

REPO = "org/tiny"


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        hub.add(REPO, {"a.Q4_K_M.gguf": Path(__file__), "a.Q8_0.gguf": Path(__file__)})
        yield hub


async def test_any_number_of_askers_are_one_question(hub: Hub) -> None:
    pins = Pins()

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(pins.pin(f"hf:{REPO}")) for _ in range(20)]
    later = await pins.pin(f"hf:{REPO}@main::file=a.Q8_0.gguf")

    size = len(hub.repos[REPO].files["a.Q8_0.gguf"])
    assert {task.result().ref for task in asked} == {hub.ref(REPO, "a.Q4_K_M.gguf")}
    assert (later.ref, later.size_bytes) == (hub.ref(REPO, "a.Q8_0.gguf"), size)
    assert hub.count("api") == 1


async def test_what_a_host_has_is_taken_without_asking(hub: Hub) -> None:
    ref = f"hf:{REPO}@{'0' * 40}::file=a.Q4_K_M.gguf"

    assert (await Pins().pin(f"hf:{REPO}", [(ref, 1)])).ref == ref
    assert hub.seen == []
    assert (await Pins().pin(f"hf:{REPO}", [(ref, 1)], newest=True)).ref == hub.ref(REPO, "a.Q4_K_M.gguf")


async def test_a_hub_that_is_gone_is_no_reason_to_fail_where_a_host_has_it(hub: Hub) -> None:
    ref = f"hf:{REPO}@{'0' * 40}::file=a.Q4_K_M.gguf"
    await hub.stop()

    assert (await Pins().pin(f"hf:{REPO}", [(ref, 1)], newest=True)).ref == ref
    with pytest.raises(HubUnreachable):
        await Pins().pin(f"hf:{REPO}")


async def test_a_private_or_missing_repository_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos[REPO].token = "hf_right"
    with pytest.raises(Forbidden, match="set HF_TOKEN"):
        await Pins().pin(f"hf:{REPO}")

    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert (await Pins().pin(f"hf:{REPO}")).ref == hub.ref(REPO, "a.Q4_K_M.gguf")
    with pytest.raises(ModelNotFound):
        await Pins().pin("hf:org/none")
    with pytest.raises(ModelNotFound, match="no such revision"):
        await Pins().pin(f"hf:{REPO}@v9")


async def test_what_is_no_hub_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.faults.statuses = {"api": [(200, {})]}

    with pytest.raises(HubUnreachable, match="does not answer as one"):
        await Pins().pin(f"hf:{REPO}")


async def test_a_failure_is_not_asked_for_again_at_once(hub: Hub) -> None:
    hub.faults.statuses = {"api": [(503, {})]}
    pins = Pins()

    for _ in range(3):
        with pytest.raises(HubUnreachable, match="status 503"):
            await pins.pin(f"hf:{REPO}")

    assert hub.count("api") == 1


@pytest.mark.parametrize(
    "answer", [{}, [], None, {"error": "x"}, {"id": "o/r", "sha": None, "siblings": []}, {"id": "o/r", "sha": "main"}]
)
async def test_json_that_is_no_answer_of_a_hub_is_told(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answered(_: web.Request) -> web.Response:
        return web.json_response(answer)

    app = web.Application()
    app.router.add_get("/{rest:.*}", answered)
    async with TestServer(app) as server:
        monkeypatch.setenv("HF_ENDPOINT", str(server.make_url("")).rstrip("/"))

        with pytest.raises(HubUnreachable, match="does not answer as one"):
            await Pins().pin("hf:o/r")
