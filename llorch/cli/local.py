"""Every role in this one process: `serve all` and `demo`. Workers run in this event loop instead of as processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
from aiohttp import web

from llorch import log
from llorch.cli.pooled_worker import ready_url, server_of
from llorch.edge import DRAIN
from llorch.errors import LlorchError
from llorch.origins import guests
from llorch.serve import Site, running
from llorch.settings import Settings
from roles.orchestrator.app import create as orchestrator
from roles.pool.app import create as pool
from roles.pool.worker_lifecycle.launcher import WorkerSpec
from roles.worker.api import END
from roles.worker.app import WorkerOptions
from roles.worker.app import create as worker

KILLED = -9
_log = log.get("local")


def sites(settings: Settings) -> Sequence[Site]:
    """Return the orchestrator, and a pool that will register with it and start workers inside this process."""

    def build(urls: Sequence[str]) -> web.Application:
        own = msgspec.structs.replace(settings.pool, orchestrator=urls[0], advertise="")
        launcher = Launcher(settings)
        app = pool(msgspec.structs.replace(settings, pool=own), launcher)
        app.cleanup_ctx.insert(0, launcher.lifetime)
        return app

    return (
        Site(orchestrator(settings), settings.orchestrator.host, settings.orchestrator.port),
        Site(build, settings.pool.host, settings.pool.port),
    )


class Launcher:
    """Starts workers in this event loop; owns their tasks, so it has to outlive the pool that uses it."""

    outlived = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tasks: asyncio.TaskGroup | None = None
        self._children: set[Child] = set()

    async def lifetime(self, _app: web.Application) -> AsyncIterator[None]:
        """Be able to start workers; in the end, end those that are left."""
        async with asyncio.TaskGroup() as self._tasks:
            yield
            for child in self._children:
                child.kill()

    async def start(self, spec: WorkerSpec) -> Child:
        """Start one."""
        if self._tasks is None:
            raise RuntimeError("the launcher is not open")
        own = self._settings.worker
        options = WorkerOptions(
            model_path=spec.path,
            model_ref=spec.model_ref,
            worker_id=spec.worker_id,
            token=spec.token,
            callback_url=ready_url(spec.callback_url),
            backend=spec.backend,
            device=spec.device,
            split=spec.split_text,
            engine=spec.engine,
            slots=spec.slots,
            ctx=spec.ctx,
            threads=own.threads,
            batch=own.batch,
            reattach_s=own.reattach_s,
            engine_options=spec.options,
            server=server_of(self._settings, spec.model_ref),
            guests=guests(self._settings),
        )
        child = Child(worker(options))
        child.task = self._tasks.create_task(child.run(spec.host, spec.port), name=f"worker-{spec.worker_id}")
        self._children.add(child)
        child.task.add_done_callback(lambda _: self._children.discard(child))
        return child


class Child:
    """A worker inside this process. Its failure, a bug in it included, is its own end and nobody else's."""

    pid: int | None = None
    birth = ""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._stop = asyncio.Event()
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._url: str | None = None
        self._lines = ["this worker runs inside `llorch serve all`; what it logs is on the stderr of that process"]
        self.task: asyncio.Task[None] | None = None
        app[END] = self.terminate  # the worker itself would end its process, which is everybody's

    async def run(self, host: str, port: int) -> None:
        """Serve until told to stop, and tell how that ended."""
        code = KILLED
        try:
            async with running(self._app, host, port) as self._url:
                await self._stop.wait()
                if DRAIN in self._app:
                    await self._app[DRAIN]()
            code = 0
        except (Exception, ExceptionGroup) as error:  # noqa: BLE001 - as a process's end is, whatever it was
            code = 1
            self._lines.append(_reason(error))
            _log.error("worker_failed", reason=_reason(error), exc_info=None if _expected(error) else error)
        finally:
            self._ended.set_result(code)

    async def wait(self) -> int:
        """Return the exit status that a process would have had."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Ask it to finish its jobs and end."""
        self._stop.set()

    def kill(self) -> None:
        """End it now."""
        if self.task is not None:
            self.task.cancel()

    def leave(self) -> None:
        """Do nothing: it cannot go on without this process."""

    async def tidy(self) -> None:
        """Do nothing: it has no log file."""

    async def url(self) -> str | None:
        """Return where it answers, once it does."""
        return self._url

    async def lines(self, limit: int) -> list[str]:
        """Return where its log is, and why it failed."""
        return self._lines[-limit:]


def _expected(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_expected(inner) for inner in error.exceptions)
    return isinstance(error, LlorchError)


def _reason(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(_reason(inner) for inner in error.exceptions))
    return error.message if isinstance(error, LlorchError) else f"{type(error).__name__}: {error}"
