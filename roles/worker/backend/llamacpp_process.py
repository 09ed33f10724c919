"""The engine process as the worker sees it: started, watched, killed. It computes in `llamacpp_host`.

Strategy: the process reports on stdout and complains on stderr; one task reads each. Its log lines become ours, but
never those that can quote a request: from a line about an exception only the fact is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import subprocess
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import msgspec
import psutil

from llorch import errors, log
from llorch.leftovers import private_folder
from roles.worker.backend.llamacpp_options import ending, load_error
from roles.worker.backend.llamacpp_parts import linked
from roles.worker.llamacpp_host import NO_DEVICE_STATUS, REPORT
from roles.worker.llamacpp_launch import launch

STATE = "cmd_child_to_router:state:"
SOCKET = "e.sock"
MAX_SOCKET_PATH = 100
LINE_LIMIT_BYTES = 1 << 20
_LINE = re.compile(r"^[\d.]+ ([DIWE]) (.*)$")
_QUOTING = ("exception", "llg error")
_CRASH = ("GGML_ASSERT", "GGML_ABORT", "terminate called", "what():", "CUDA error", "ggml_abort")
_log = log.get("worker.engine")


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What the engine process is told; `ctx` is one slot's, `split` the parts of the model by device number.

    Numbers are those under which it sees GPUs with that `environment`; see `gpus`.
    `lora` are the adapters' paths with their scales. `snapshots` is the folder for what slots hold; see
    `llamacpp_snapshots`.
    `pooling` is what makes one vector of a text's; 0 for models that generate text.
    """

    model_path: str
    backend: str
    device_index: int
    split: dict[int, int]
    environment: dict[str, str]
    slots: int
    ctx: int
    threads: int
    batch: int
    kv_type: str = "f16"
    lora: tuple[tuple[str, float], ...] = ()
    draft: str = ""
    projector: str = ""
    snapshots: str = ""
    pooling: int = 0

    def cache_setup(self) -> dict[str, object]:
        """Return what changes the contents of a KV cache, and not only how fast or for how many it is filled."""
        told = asdict(self)
        for name in ("model_path", "device_index", "split", "environment", "slots", "threads", "batch", "snapshots"):
            del told[name]
        return told

    @property
    def paths(self) -> list[str]:
        """All files."""
        return [self.model_path, *(path for path, _ in self.lora), *filter(None, (self.draft, self.projector))]


class Loaded(msgspec.Struct, frozen=True):
    """llama.cpp's own words about the loaded model."""

    n_vocab: int = 0
    n_ctx: int = 0
    vocab_type: int = 0
    ftype: str = ""


class _Ready(msgspec.Struct, frozen=True):
    meta: Loaded = Loaded()
    value: float = 0.0


class _State(msgspec.Struct, frozen=True):
    state: str
    payload: _Ready = _Ready()


class EngineProcess:
    """The one engine process of a worker.

    Args:
        tasks: Owns the tasks that read what it writes.
        launched: Waits for its options already; without it one is started when a model is to be loaded.
    """

    def __init__(self, tasks: asyncio.TaskGroup, launched: subprocess.Popen[bytes] | None = None) -> None:
        self._tasks = tasks
        self._process = launched
        self._folder: Path | None = None
        self._last = contextlib.ExitStack()
        self._complaints: deque[str] = deque(maxlen=20)
        self._devices: list[str] = []
        self._loaded: asyncio.Future[None] | None = None
        self._facts = Loaded()
        self._readers: list[asyncio.Future[None]] = []
        self.key = secrets.token_hex(32)

    @property
    def socket(self) -> str:
        """The path of the Unix socket it listens on."""
        assert self._folder is not None
        return str(self._folder / SOCKET)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def load(self, options: HostOptions, on_progress: Callable[[float], None]) -> Loaded:
        """Start it and wait until its model is loaded.

        Raises:
            ModelInvalid, ModelIncompatible, BackendUnavailable, EngineFailed: It could not; see `load_error`.
        """
        self._loaded = asyncio.get_running_loop().create_future()
        self._folder = self._last.enter_context(private_folder(longest=MAX_SOCKET_PATH - len(f"/{SOCKET}")))
        process = self._process = self._process or launch()
        reports, said = await _reader(process.stdout), await _reader(process.stderr)
        self._readers = [
            self._tasks.create_task(self._read_reports(reports, on_progress), name="engine-reports"),
            self._tasks.create_task(self._read_log(said), name="engine-log"),
        ]
        path = str(await asyncio.to_thread(linked, Path(options.model_path), self._folder))
        _tell(process, {**asdict(options), "model_path": path, "socket": self.socket, "key": self.key})
        await asyncio.wait({self._loaded, self._readers[0]}, return_when=asyncio.FIRST_COMPLETED)
        if self._loaded.done():
            return self._facts
        await self.wait()
        if process.returncode == NO_DEVICE_STATUS:
            raise errors.BackendUnavailable(
                f"no {options.backend} device can be used here; there is: {', '.join(self._devices) or 'none'}"
            )
        complaints = list(self._complaints)
        for shown in (path, *options.paths):
            complaints = [c.replace(shown, Path(shown).name) for c in complaints]
        raise load_error(complaints, status=process.returncode or 0)

    async def wait(self) -> str:
        """Wait for its end; return how it ended and the last thing it complained about."""
        assert self._process is not None
        await asyncio.wait(self._readers)
        status = await asyncio.to_thread(self._process.wait)
        last = f"; its last words: {self._complaints[-1]}" if self._complaints else ""
        return f"the engine process ended with {ending(status)}{last}"

    def memory_bytes(self) -> int:
        """Return what it has in memory now."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    async def close(self) -> None:
        """Kill it: it holds nothing that needs saving."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)
            if process.stdin is not None:
                process.stdin.close()
        self._last.close()

    async def _read_reports(self, stream: asyncio.StreamReader, on_progress: Callable[[float], None]) -> None:
        while line := await stream.readline():
            text = line.decode("utf-8", "replace").strip()
            if text.startswith(REPORT):
                self._devices = json.loads(text.removeprefix(REPORT))["devices"]
            elif text.startswith(STATE):
                report = msgspec.json.decode(text.removeprefix(STATE), type=_State)
                if report.state == "loading":
                    on_progress(report.payload.value * 100)
                elif report.state == "ready" and self._loaded is not None and not self._loaded.done():
                    self._complaints.clear()
                    self._facts = report.payload.meta
                    self._loaded.set_result(None)

    async def _read_log(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            text = line.decode("utf-8", "replace").strip()
            found = _LINE.match(text)
            if found is None:
                if any(sign in text for sign in _CRASH):
                    self._complaints.append(_without_quotes(text))
                continue
            level, said = found[1], _without_quotes(found[2])
            if level == "E":
                self._complaints.append(said)
            running = self._loaded is not None and self._loaded.done()
            if level == "E" and running:
                _log.warning("engine", said=said)
            else:
                _log.debug("engine", said=said)


async def _reader(pipe: IO[bytes] | None) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
    return reader


def _tell(process: subprocess.Popen[bytes], options: dict[str, object]) -> None:
    """Write its options, which a pipe holds at once; one that has died meanwhile is found out by its reader."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(options).encode() + b"\n")


def _without_quotes(said: str) -> str:
    """Drop what follows an exception or an error in a grammar: its text can quote the request."""
    for sign in _QUOTING:
        said, found, _ = said.partition(sign)
        said += found
    return said[:300]
