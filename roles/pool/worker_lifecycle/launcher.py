"""How a worker comes to life: the Protocol that the supervisor relies on, and what it is told. No I/O.

`processes.py` starts processes; `serve all` brings its own launcher, which runs the worker inside this process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from llorch.wire.engine_options import PLAIN, EngineOptions
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
        device: The id of the device, or of the first where the model is laid over several.
        slots: Jobs at once.
        ctx: Context of one slot, in tokens.
        host: The address it binds.
        port: Its port; 0 takes a free one.
        callback_url: The pool's base URL; `POST /v2/internal/workers/ready` goes there.
        token: The one-time spawn token: the worker's endpoints and the callback ask for it.
        split: Of each device that the model is laid over, how many parts of it; empty for one device alone.
        options: How its engine runs the model, with paths for files.
        orphan_s: How long it goes on without a job when no pool asks for its health any more; 0 for ever.
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
    orphan_s: float = 0.0
    split: tuple[tuple[str, int], ...] = ()
    options: EngineOptions = PLAIN

    @property
    def split_text(self) -> str:
        """The split as a worker's option."""
        return ", ".join(f"{device} = {parts}" for device, parts in self.split)


class Child(Protocol):
    """A worker that was started."""

    @property
    def pid(self) -> int | None:
        """The process; None for a worker inside this one."""

    @property
    def birth(self) -> str:
        """What tells its process from a later one with the same id; empty for a worker inside this one."""

    async def wait(self) -> int | None:
        """Return the exit status when it has ended and nothing of it is left; negative is a signal's number.

        None when it cannot be known: only a parent is told.
        """

    def terminate(self) -> None:
        """Ask it to end. Nothing happens when it already has."""

    def kill(self) -> None:
        """End it and everything it started, now. Nothing happens when it already has ended."""

    def leave(self) -> None:
        """Let it run on when this process ends. Only for what `Launcher.outlived` launchers start."""

    async def url(self) -> str | None:
        """Return where it answers, as soon as that is known; long before it is ready."""

    async def lines(self, limit: int) -> list[str]:
        """Return the last lines it logged, at most *limit*; also after its end."""

    async def tidy(self) -> None:
        """Keep what it logs from growing without bound."""


class Launcher(Protocol):
    """Starts workers. `outlived` tells whether they go on when this process ends, whatever ends it."""

    @property
    def outlived(self) -> bool:
        """Whether its workers are processes of their own."""

    async def start(self, spec: WorkerSpec) -> Child:
        """Start one.

        Raises:
            OSError: It cannot be started.
        """
