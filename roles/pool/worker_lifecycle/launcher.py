"""How a worker comes to life: the Protocol that the supervisor relies on, and what it is told. No I/O.

`processes.py` starts processes; `serve all` brings its own launcher, which runs the worker inside this process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from llorch.wire.pools import Backend, Engine


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Everything a worker has to know.

    Args:
        worker_id: Its id.
        model_ref: The reference it serves, as the orchestrator knows it.
        path: The model file.
        backend: What it computes on.
        engine: What computes.
        device: The id of the device.
        slots: Jobs at once.
        ctx: Context of one slot, in tokens.
        host: The address it binds.
        port: Its port; 0 takes a free one.
        callback_url: The pool's base URL; `POST /v2/internal/workers/ready` goes there.
        token: The one-time spawn token: the worker's endpoints and the callback ask for it.
    """

    worker_id: str
    model_ref: str
    path: Path
    backend: Backend
    engine: Engine
    device: str
    slots: int
    ctx: int
    host: str
    port: int
    callback_url: str
    token: str = field(repr=False)


class Child(Protocol):
    """A worker that was started."""

    @property
    def pid(self) -> int | None:
        """The process; None for a worker inside this one."""

    async def wait(self) -> int:
        """Return the exit status when it has ended and nothing of it is left; negative is a signal's number."""

    def terminate(self) -> None:
        """Ask it to end. Nothing happens when it already has."""

    def kill(self) -> None:
        """End it and everything it started, now. Nothing happens when it already has ended."""

    async def url(self) -> str | None:
        """Return where it answers, as soon as that is known; long before it is ready."""

    async def lines(self, limit: int) -> list[str]:
        """Return the last lines it logged, at most *limit*; also after its end."""


class Launcher(Protocol):
    """Starts workers."""

    async def start(self, spec: WorkerSpec) -> Child:
        """Start one.

        Raises:
            OSError: It cannot be started.
        """
