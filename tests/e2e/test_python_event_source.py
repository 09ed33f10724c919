"""A Python reader that others wrote (requests and sseclient-py) follows a job over a killed orchestrator."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import requests
from sseclient import Event, SSEClient

from tests.e2e.processes import pool_role, role, text_of
from tests.support import models

STEADY = models.Shape(n_embd=320, n_layer=6, n_head=5, n_ff=864, ctx=512)
ENDS = {"end", "error"}


def _read(url: str, seen: list[Event], reached: Callable[[], object]) -> None:
    """Read to the terminal event; after a broken connection, go on behind the last event, whoever answers then."""
    while not (seen and seen[-1].event in ENDS):
        headers = {"Last-Event-ID": str(seen[-1].id)} if seen else {}
        try:
            with requests.get(url, headers=headers, stream=True, timeout=(5, 60)) as response:
                for event in SSEClient(response.iter_content(None)).events():
                    seen.append(event)
                    if event.id == "30.0":
                        reached()
        except requests.RequestException:
            time.sleep(0.1)  # as the reconnection time of a browser


async def test_a_reader_by_others_gets_every_token_once_over_a_killed_orchestrator(tmp_path: Path) -> None:
    steady = models.make(tmp_path / "steady.gguf", STEADY)
    task = {"model": f"file:{steady}", "prompt": "one two three", "max_tokens": 200, "temperature": 0}
    data, log = str(tmp_path / "orchestrator"), tmp_path / "log"
    seen: list[Event] = []
    reached = asyncio.Event()
    async with (
        role("orchestrator", "--port", "0", "--data-dir", data, log=log) as first,
        pool_role(tmp_path, first.url),
        asyncio.TaskGroup() as tasks,
    ):
        job = await first.submit(**task)
        tell = partial(asyncio.get_running_loop().call_soon_threadsafe, reached.set)
        events_url = f"{first.url}/v2/tasks/{job.job_id}/events"
        reader = tasks.create_task(asyncio.to_thread(_read, events_url, seen, tell))
        await reached.wait()
        await first.stop(signal.SIGKILL)
        port = first.url.rpartition(":")[2]
        async with role("orchestrator", "--port", port, "--data-dir", data, log=log) as second:
            await asyncio.shield(reader)
            whole = text_of(await second.events(job.job_id))

    tokens = [json.loads(event.data) for event in seen if event.event == "token"]
    ids = [tuple(map(int, str(event.id).split("."))) for event in seen]
    assert [token["i"] for token in tokens] == list(range(len(tokens)))
    assert "".join(token["t"] for token in tokens) == whole
    assert ids == sorted(set(ids))
    assert [event.event for event in seen if event.event in ENDS] == ["end"]
