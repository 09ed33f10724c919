"""Measures the pause that a killed orchestrator costs 100 running jobs: python -m tests.bench.recovery.

A real pool and a real worker with 100 slots write; 100 readers follow. The orchestrator is killed with SIGKILL and
started again at once on the same port and data. For each reader: the time from the kill to the next token that it had
not seen. Prints first, median, 99th percentile and last, and checks that no token is missing or doubled.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop

from llorch.client import Client
from llorch.wire.tasks import Accepted
from tests.bench.roles import llorch
from tests.support import models

JOBS = 100
TOKENS = 1_800
ROUNDS = 3
RETRY_S = 0.02
LONG = models.Shape(ctx=2048)
_ID = re.compile(rb"\nid: (\d+)\.0\n")


@dataclass(slots=True)
class Reader:
    """One job's reader: how many tokens it has, and when new ones came after the last kill."""

    job_id: str
    tokens: int = 0
    killed_s: float = 0.0
    back_s: list[float] = field(default_factory=list)
    gaps: int = 0
    ended: bool = False

    async def follow(self, port: int) -> None:
        """Read to the end over as many connections as it takes."""
        while not self.ended:
            with contextlib.suppress(OSError):
                await self._once(port)
            await asyncio.sleep(RETRY_S)

    async def _once(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        last = f"Last-Event-ID: {self.tokens}.0\r\n" if self.tokens else ""
        writer.write(f"GET /v2/tasks/{self.job_id}/events HTTP/1.1\r\nHost: localhost\r\n{last}\r\n".encode())
        rest = b""
        try:
            while data := await reader.read(2**18):
                window = rest + data
                whole, border, tail = window.rpartition(b"\n\n")
                rest = tail if border else window
                for found in _ID.finditer(whole + border):
                    self._token(int(found[1]))
                self.ended = self.ended or b"event: end\n" in whole or b"event: error\n" in whole
        finally:
            writer.close()

    def _token(self, number: int) -> None:
        self.gaps += number != self.tokens + 1
        self.tokens = number
        if self.killed_s:
            self.back_s.append(time.perf_counter() - self.killed_s)
            self.killed_s = 0.0


def _show(name: str, value: str) -> None:
    print(f"{name:<58} {value}", flush=True)


def _restarted(port: int, data: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "llorch", "serve", "orchestrator", "--port", str(port), "--data-dir", data]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


async def _measure(url: str, model: Path, first: subprocess.Popen[str], port: int, data: str) -> None:
    running = first
    async with Client(url) as client:
        task = {"model": f"file:{model}", "prompt": "one two three", "max_tokens": TOKENS, "temperature": 0}
        accepted = [await client.send("POST", "/v2/tasks", Accepted, body=task) for _ in range(JOBS)]
    readers = [Reader(job.job_id) for job in accepted]
    try:
        async with asyncio.timeout(500), asyncio.TaskGroup() as tasks:
            for reader in readers:
                tasks.create_task(reader.follow(port))
            for number in range(ROUNDS):
                seen = [reader.tokens for reader in readers]
                while not all(reader.tokens > before + 50 for reader, before in zip(readers, seen, strict=True)):
                    await asyncio.sleep(0.05)
                killed_s = time.perf_counter()
                running.send_signal(signal.SIGKILL)
                running.wait()
                for reader in readers:
                    reader.killed_s = killed_s
                running = _restarted(port, data)
                assert running.stdout is not None
                await asyncio.to_thread(running.stdout.readline)
                ready_s = time.perf_counter() - killed_s
                while any(reader.killed_s and not reader.ended for reader in readers):
                    await asyncio.sleep(0.01)
                back = sorted(reader.back_s[-1] for reader in readers if len(reader.back_s) > number)
                _show(
                    f"kill {number + 1}: {len(back)} streams go on; the orchestrator answers after {ready_s:.2f} s",
                    f"first {back[0]:.2f} s, p50 {back[len(back) // 2]:.2f} s, "
                    f"p99 {back[int(len(back) * 0.99)]:.2f} s, last {back[-1]:.2f} s",
                )
    finally:
        running.terminate()
        running.wait()
    whole = sum(reader.tokens for reader in readers)
    _show("tokens read, missing or doubled", f"{whole:,}, {sum(reader.gaps for reader in readers)}")


def main() -> None:
    """Run it and print the table."""
    _show("machine", f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}")
    env = {"LLORCH_WORKER_SLOTS": str(JOBS), "LLORCH_WORKER_CTX": "2048"}
    with tempfile.TemporaryDirectory() as folder:
        model = models.make(Path(folder) / "long.gguf", LONG)
        data = f"{folder}/orchestrator"
        with (
            llorch("serve", "orchestrator", "--port", "0", "--data-dir", data) as role,
            llorch("serve", "pool", "--port", "0", "--data-dir", f"{folder}/pool", "--orchestrator", role.url, env=env),
        ):
            uvloop.run(_measure(role.url, model, role.popen, role.port, data))


if __name__ == "__main__":
    main()
