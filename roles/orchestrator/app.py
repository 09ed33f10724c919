"""The orchestrator's app: wiring and lifetimes, nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from llorch.config import data_dir
from llorch.edge import DRAIN, create_app
from llorch.errors import BusyError
from llorch.models import resolve
from llorch.origins import guests
from llorch.policy import ModelPolicy
from llorch.settings import Settings
from llorch.wire.engine_options import renamed
from roles.orchestrator.api.keys import BATCHES, CORE, OPERATIONS, SETTINGS
from roles.orchestrator.api.meta import ENDPOINTS
from roles.orchestrator.batches.folder import Folder
from roles.orchestrator.batches.registry import Registry
from roles.orchestrator.batches.runner import Runner
from roles.orchestrator.clock import ClockMs, SteadyClock, now_ms
from roles.orchestrator.core import Orchestrator
from roles.orchestrator.fleet import Fleet
from roles.orchestrator.meanings import keep_known
from roles.orchestrator.metrics import OrchestratorMetrics
from roles.orchestrator.operations import Operations
from roles.orchestrator.queue.attempt import Patience
from roles.orchestrator.state.batches import BatchTables
from roles.orchestrator.state.store import Store

DATABASE = "orchestrator.db"
FILES = "files"
CLEAN_EVERY_S = 60.0
LOOK_EVERY_S = 1.0
LAST_WRITES_S = 5.0


def create(settings: Settings, *, wall_ms: ClockMs = now_ms) -> web.Application:
    """Build the orchestrator.

    Args:
        settings: `[orchestrator]`, the aliases and the token are used.
        wall_ms: The wall clock; tests pass their own.

    Raises:
        InvalidConfiguration: When it starts: the data directory cannot be used, or the database is not sound.
    """
    metrics = OrchestratorMetrics()
    clock_ms = SteadyClock(wall_ms)
    own = settings.orchestrator

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        async with (
            Store(data_dir(own, "orchestrator") / DATABASE) as store,
            Fleet(
                settings.token,
                own.heartbeat_interval_s,
                clock_ms=clock_ms,
                policies=_policies(settings),
                default=ModelPolicy(keep_alive_s=own.keep_alive_s),
            ) as fleet,
            asyncio.TaskGroup() as loops,
        ):
            core = app[CORE] = Orchestrator(
                store=store,
                fleet=fleet,
                metrics=metrics,
                clock_ms=clock_ms,
                aliases=settings.aliases,
                queue_capacity=own.queue_capacity,
                patience=Patience(
                    start_s=own.start_timeout_s, stall_s=own.stall_timeout_s, cancel_s=own.cancel_grace_s
                ),
                prefix_affinity=own.prefix_affinity,
            )
            app[OPERATIONS] = Operations(core.dispatcher, core.relay, store, clock_ms)
            tables = BatchTables(store.writer, store.reader)
            folder = Folder(data_dir(own, "orchestrator") / FILES)
            runner = Runner(core, store, tables=tables, folder=folder, clock_ms=clock_ms, longest=own.max_body_bytes)
            batches = app[BATCHES] = Registry(
                tables, folder, runner=runner, clock_ms=clock_ms, retention_ms=round(own.output_retention_s * 1000)
            )
            app[DRAIN] = lambda: core.drain(own.drain_s)
            writer = loops.create_task(store.writer.run(), name="writer")
            await core.recover()
            await batches.tidy()
            others = [
                loops.create_task(core.dispatcher.run(), name="dispatcher"),
                loops.create_task(_clean(core, batches, settings), name="cleaner"),
                loops.create_task(runner.run(), name="batches"),
                loops.create_task(_shorten(core, store), name="shortener"),
                loops.create_task(core.call_pools(), name="call to pools"),
                loops.create_task(keep_known(core.names, fleet, clock_ms=clock_ms), name="meanings"),
            ]
            yield
            for task in others:
                task.cancel()
            await asyncio.wait(others)
            with contextlib.suppress(TimeoutError):  # the disk is full: what is not written is found at the workers
                async with asyncio.timeout(LAST_WRITES_S):
                    await core.relay.shorten_log()
                    await store.writer.flush()
            writer.cancel()

    app = create_app(
        ENDPOINTS,
        lifetime,
        metrics=metrics,
        token=settings.token,
        guests=guests(settings),
        max_body_bytes=own.max_body_bytes,
    )
    app[SETTINGS] = settings
    return app


def _policies(settings: Settings) -> dict[str, ModelPolicy]:
    """Return what the operator wants of models, by references instead of aliases."""

    def ref(name: str) -> str:
        return resolve(name, settings.aliases)

    return {ref(name): renamed(policy, ref) for name, policy in settings.models.items()}


async def _clean(core: Orchestrator, batches: Registry, settings: Settings) -> None:
    """Erase what has been kept long enough, once a minute."""
    own = settings.orchestrator
    while True:
        with contextlib.suppress(BusyError, OSError):  # the disk is full, read-only or fails; the writer tells of it
            await batches.clean(purge_after_ms=round(own.purge_after_s * 1000))
            await core.clean(
                output_retention_ms=round(own.output_retention_s * 1000), purge_after_ms=round(own.purge_after_s * 1000)
            )
        await asyncio.sleep(CLEAN_EVERY_S)


async def _shorten(core: Orchestrator, store: Store) -> None:
    """Begin the text log anew whenever it has grown long or old."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if store.texts.long:
            await core.relay.shorten_log()
