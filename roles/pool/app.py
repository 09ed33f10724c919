"""The pool's app: wiring and lifetimes, nothing else."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry

from llorch.client import Client
from llorch.config import Settings, data_dir
from llorch.edge import ADDRESS, DRAIN, create_app
from llorch.errors import InvalidConfiguration
from roles.pool.api import ENDPOINTS, POOL
from roles.pool.core import Addresses, Pool, find_addresses
from roles.pool.gpu_inventory.sampler import Sampler
from roles.pool.heartbeat import Heartbeats
from roles.pool.metrics import Facts, LifecycleMetrics
from roles.pool.model_cache.catalogue import Catalogue
from roles.pool.worker_lifecycle import engines
from roles.pool.worker_lifecycle.launcher import Launcher
from roles.pool.worker_lifecycle.processes import ProcessLauncher, worker_command
from roles.pool.worker_lifecycle.supervisor import HEALTH_INTERVAL_S, Patience, Supervisor


def create(
    settings: Settings, launcher: Launcher | None = None, *, health_interval_s: float = HEALTH_INTERVAL_S
) -> web.Application:
    """Build the pool.

    Args:
        settings: `[pool]`, the defaults of `[worker]` and the token are used.
        launcher: Starts workers; processes of their own unless given.
        health_interval_s: Between two health checks of a worker.

    Raises:
        InvalidConfiguration: When it starts: the data directory cannot be used.
    """
    own = settings.pool
    metrics = LifecycleMetrics(CollectorRegistry())

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        data = data_dir(own, "pool")
        logs_dir = await asyncio.to_thread(_prepare, data)
        address = app[ADDRESS] = asyncio.get_running_loop().create_future()
        changed = asyncio.Event()
        async with AsyncExitStack() as stack:
            sampler = Sampler()
            stack.callback(sampler.close)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            supervisor = Supervisor(
                launcher or ProcessLauncher(logs_dir, functools.partial(worker_command, config=settings.source)),
                tasks,
                patience=Patience(own.ready_timeout_s, own.drain_s, own.stop_grace_s, health_interval_s),
                metrics=metrics,
                changed=changed.set,
                clock_ms=_now_ms,
            )
            addresses = tasks.create_task(_addresses(settings, address), name="addresses")
            found = tasks.create_task(asyncio.to_thread(engines.installed), name="engines")
            pool = app[POOL] = Pool(
                settings,
                addresses=addresses,
                catalogue=Catalogue(_models_dir(own.models_dir, data)),
                sampler=sampler,
                supervisor=supervisor,
                engines=found,
                clock_ms=_now_ms,
            )
            facts = Facts(pool.newest_devices, lambda: (record.status for record in supervisor.workers()))
            metrics.registry.register(facts)
            app[DRAIN] = supervisor.close
            loops: list[asyncio.Task[object]] = [addresses, found]
            if own.orchestrator:
                client = await stack.enter_async_context(
                    Client(own.orchestrator, token=settings.token, what="the orchestrator")
                )
                heartbeats = Heartbeats(pool, client, changed)
                stack.push_async_callback(heartbeats.goodbye)
                loops.append(tasks.create_task(heartbeats.run(), name="heartbeats"))
            yield
            await supervisor.close()
            for loop in loops:
                loop.cancel()
            await asyncio.wait(loops)

    return create_app(ENDPOINTS, lifetime, metrics=metrics, token=settings.token)


async def _addresses(settings: Settings, address: asyncio.Future[str]) -> Addresses:
    return find_addresses(settings, await address)


def _models_dir(named: str, data: Path) -> Path:
    return Path(named).expanduser() if named else data / "models"


def _prepare(data: Path) -> Path:
    """Make the data directory, for the owner alone; return where the workers' logs go."""
    logs_dir = data / "logs"
    try:
        for folder in (data, logs_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        if not os.access(logs_dir, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        raise InvalidConfiguration(
            f"the pool's data directory {data} cannot be used: {error.strerror}; choose another --data-dir"
        ) from None
    return logs_dir


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
