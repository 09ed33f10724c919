"""A real headless Chromium, spoken to over its own debugging protocol. Skips with the reason where there is none."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
PATIENCE_S = 60.0


class Page:
    """One page of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def open(self, url: str) -> None:
        """Go to an address and wait until it is there."""
        await self._call("Page.enable")
        await self._call("Page.navigate", url=url)
        while await self.evaluate("document.readyState") != "complete" or await self.evaluate("location.href") != url:
            await asyncio.sleep(0.05)

    async def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - whatever JavaScript returns
        """Return what a JavaScript expression is, promises awaited."""
        answer = await self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def _call(self, method: str, **params: object) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer: dict[str, Any] = json.loads(await self._socket.receive_str())
                if answer.get("id") == number:
                    assert "error" not in answer, answer
                    return dict(answer["result"])


@asynccontextmanager
async def page(profile: Path, *flags: str) -> AsyncIterator[Page]:
    """Run a browser, with more *flags*, and one page for the length of the block."""
    command = next(filter(None, map(shutil.which, NAMES)), None)
    if command is None:
        pytest.skip("there is no Chromium here; Debian's is: apt-get install chromium")
    process = await asyncio.create_subprocess_exec(
        command, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        port = await _port(profile, process)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            async with http.get("/json/list") as response:
                found = next(one for one in await response.json(content_type=None) if one["type"] == "page")
            async with http.ws_connect(found["webSocketDebuggerUrl"], max_msg_size=2**26) as socket:
                yield Page(socket)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _port(profile: Path, process: asyncio.subprocess.Process) -> str:
    """Wait for the browser to say where its debugging protocol is."""
    told = profile / "DevToolsActivePort"
    async with asyncio.timeout(PATIENCE_S):
        while not (told.exists() and told.read_text().count("\n")):
            assert process.returncode is None, "the browser has ended"
            await asyncio.sleep(0.05)
    return told.read_text().splitlines()[0]
