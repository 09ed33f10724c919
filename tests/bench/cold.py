"""From nothing to the first token, and a worker's start beside the bare engine's: python -m tests.bench.cold [MODEL].

The demo model, and one of 1.1 B random parameters in Q4_0 (0.6 GB; or MODEL, its path). Files are in the page cache.
The bare engine and the worker take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gguf
import psutil

from llorch.models import HAIKU_REF
from roles.pool.model_cache.readahead import ReadAhead
from roles.pool.worker_lifecycle.launcher import WorkerSpec
from roles.pool.worker_lifecycle.processes import worker_command, worker_environment
from tests.bench.roles import Process, llorch, script, started
from tests.bench.system import BILLION
from tests.support import models

ROUNDS = 5
CTX = 512
SLOTS = 4
PATIENCE_S = 300.0
OPTIONS = {"LLORCH_WORKER_SLOTS": str(SLOTS), "LLORCH_WORKER_CTX": str(CTX)}


def _ask(url: str, body: object | None = None) -> Any:  # noqa: ANN401 - whatever JSON it is
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return json.load(response)


def _until(found: Callable[[], Any], pause_s: float = 0.005) -> Any:  # noqa: ANN401
    deadline = time.monotonic() + PATIENCE_S
    while not (value := found()):
        if time.monotonic() > deadline:
            raise TimeoutError("it took too long")
        time.sleep(pause_s)
    return value


def _cold_job(system: Process, model: str) -> dict[str, int]:
    """Run one job whose worker has to be started and ends with it; return what its first token took."""
    body = {"model": model, "prompt": "one two three", "max_tokens": 2, "temperature": 0, "keep_alive": 0}
    job = _ask(f"{system.url}/v2/tasks", body)

    def done() -> Any:  # noqa: ANN401
        task = _ask(f"{system.url}/v2/tasks/{job['job_id']}")
        assert task["status"] not in {"failed", "cancelled"}, task
        return task if task["status"] == "completed" else None

    task = _until(done, 0.05)
    _until(lambda: not _living(system), 0.05)
    timings: dict[str, Any] = task["timings"]
    parts: dict[str, int] = timings["breakdown"]
    assert sum(parts.values()) == timings["first_token_ms"] - timings["submitted_ms"]
    return parts


def _living(system: Process) -> list[dict[str, Any]]:
    (pool,) = _ask(f"{system.url}/v2/pools")["pools"]
    return [worker for worker in pool["workers"] if worker["status"] not in {"stopped", "failed"}]


def _whole(folder: Path, named: dict[str, str]) -> None:
    """Print what the first token of a cold model took, through all roles."""
    with (
        llorch("serve", "orchestrator", "--port", "0", "--data-dir", f"{folder}/o") as system,
        llorch(
            *("serve", "pool", "--port", "0", "--data-dir", f"{folder}/p", "--orchestrator", system.url), env=OPTIONS
        ),
    ):
        _until(lambda: _ask(f"{system.url}/v2/pools")["pools"])
        for name, model in named.items():
            rounds = [_cold_job(system, model) for _ in range(ROUNDS)]
            medians = {part: statistics.median(one[part] for one in rounds) for part in rounds[0]}
            totals = [sum(one.values()) for one in rounds]
            shown = ", ".join(f"{part.removesuffix('_ms')} {ms:.0f}" for part, ms in medians.items())
            whole = f"{statistics.median(totals):.0f} ms ({min(totals)} to {max(totals)})"
            print(f"{name}: first token after {whole}: {shown}", flush=True)


@contextlib.contextmanager
def _callback() -> Iterator[tuple[str, threading.Event]]:
    """Stand for a pool that a worker calls back."""
    called = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            called.set()
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server calls it
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", called
        server.shutdown()


def _worker_start_s(model: str) -> float:
    with _callback() as (url, called):
        began = time.monotonic()
        spec = WorkerSpec(
            worker_id="w",
            model_ref=f"file:{model}",
            path=Path(model),
            backend="cpu",
            engine="llamacpp",
            device="cpu",
            slots=SLOTS,
            ctx=CTX,
            host="127.0.0.1",
            port=0,
            callback_url=url,
            token="token",
        )
        with started(worker_command(spec), worker_environment(spec.token)):
            assert called.wait(PATIENCE_S)
            return time.monotonic() - began


def _engine_start_s(model: str) -> float:
    began = time.monotonic()
    with script("bare_engine", model, str(SLOTS), str(CTX)):
        return time.monotonic() - began


def _python_start_s() -> float:
    began = time.monotonic()
    with started([sys.executable, "-c", "print('http', flush=True); input()"]):
        return time.monotonic() - began


def _forget(model: str) -> None:
    """Have the system drop a file from the page cache."""
    with Path(model).open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _starts(label: str, model: str) -> None:
    """Print how long a worker takes to be ready, beside the bare engine, and what reading its file ahead saves."""
    engine, worker, cold, read = [], [], [], []
    for _ in range(ROUNDS):
        engine.append(_engine_start_s(model))
        worker.append(_worker_start_s(model))
        _forget(model)
        cold.append(_worker_start_s(model))
        _forget(model)
        began = time.monotonic()
        asyncio.run(_read_ahead(model))
        read.append(time.monotonic() - began)
    figures = [f"{statistics.median(one):.2f} s ({min(one):.2f} to {max(one):.2f})" for one in (engine, worker)]
    aim = statistics.median(engine) * 1.1 + 0.5
    print(f"{label}: engine ready after {figures[0]}, worker after {figures[1]}, aim {aim:.2f} s")
    print(
        f"{label}: worker with its file not in the page cache {statistics.median(cold):.2f} s; "
        f"reading it ahead {statistics.median(read):.2f} s",
        flush=True,
    )


async def _read_ahead(model: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        ReadAhead(tasks).begin(model, [Path(model)])


def main() -> None:
    """Make the larger model if none is given, measure, print."""
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = Path(sys.argv[1] if len(sys.argv) > 1 else folder / "billion.gguf").resolve()
        if not large.exists():
            models.make(large, BILLION, quant=gguf.GGMLQuantizationType.Q4_0)
        demo = Path(__file__).parents[2] / "llorch" / "assets" / "haiku.gguf"
        print(f"a bare Python starts in {min(_python_start_s() for _ in range(ROUNDS)):.3f} s")
        for label, path in (("demo", demo), ("1.1 B", large)):
            _starts(label, str(path))
        _whole(folder, {"demo": HAIKU_REF, "1.1 B": f"file:{large}"})


if __name__ == "__main__":
    main()
