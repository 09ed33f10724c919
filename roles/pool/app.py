"""The pool's app: wiring and lifetimes, nothing else."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry

from llorch.checkpoint_files import names_one
from llorch.config import data_dir, expanded
from llorch.edge import ADDRESS, DRAIN, create_app
from llorch.errors import Conflict, InvalidConfiguration
from llorch.models import HubRef
from llorch.origins import guests
from llorch.settings import Settings
from roles.pool.api import ENDPOINTS, REGISTRATION
from roles.pool.core import Addresses, Pool, find_addresses
from roles.pool.gpu_inventory.sampler import Sampler
from roles.pool.instance import instance
from roles.pool.metrics import Facts, LifecycleMetrics
from roles.pool.model_cache.catalogue import Catalogue
from roles.pool.model_cache.downloads import Downloads
from roles.pool.model_cache.ledger import DownloadRecord, ModelRecord
from roles.pool.model_cache.ledger import Ledger as Records
from roles.pool.model_cache.library import Library
from roles.pool.model_cache.pace import Patience as DownloadPatience
from roles.pool.model_cache.readahead import ReadAhead
from roles.pool.models_api import POOL
from roles.pool.registration import Registration
from roles.pool.servers import Servers
from roles.pool.worker_lifecycle import engines, identity, preflight
from roles.pool.worker_lifecycle.launcher import Launcher
from roles.pool.worker_lifecycle.ledger import Ledger
from roles.pool.worker_lifecycle.processes import ProcessLauncher, worker_command
from roles.pool.worker_lifecycle.reclaim import Reclaim
from roles.pool.worker_lifecycle.records import Record
from roles.pool.worker_lifecycle.roster import Roster
from roles.pool.worker_lifecycle.snapshots import SAVE_S, keep_swept
from roles.pool.worker_lifecycle.supervisor import ENDING_S, HEALTH_INTERVAL_S, Patience, Supervisor
from roles.pool.worker_lifecycle.takeover import take_over, watch_strangers

LOCK_PATIENCE_S = 3.0
LOCK_POLL_S = 0.05
SNAPSHOTS = "snapshots"


def create(
    settings: Settings,
    launcher: Launcher | None = None,
    *,
    health_interval_s: float = HEALTH_INTERVAL_S,
    download_patience: DownloadPatience | None = None,
) -> web.Application:
    """Build the pool.

    Args:
        settings: `[pool]`, the defaults of `[worker]` and the token are used.
        launcher: Starts workers; processes of their own unless given.
        health_interval_s: Between two health checks of a worker.
        download_patience: When a failed try of a download is repeated.

    Raises:
        InvalidConfiguration: When it starts: the data directory cannot be used.
        Conflict: When it starts: another pool uses it.
    """
    own = settings.pool
    metrics = LifecycleMetrics(CollectorRegistry())

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        data = data_dir(own, "pool")
        logs_dir, workers_dir = await asyncio.to_thread(_prepare, data)
        address = app[ADDRESS] = asyncio.get_running_loop().create_future()
        changed = asyncio.Event()
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, _alone(data))
            mark = await asyncio.to_thread(instance, data)
            ledger = Ledger(workers_dir)
            stack.push_async_callback(ledger.close)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            starter = launcher or _launcher(settings, logs_dir, data / SNAPSHOTS)
            roster = Roster(ledger if starter.outlived else None, changed.set, _now_ms)
            sampler = Sampler(functools.partial(_is_ours, roster))
            stack.callback(sampler.close)
            reclaim = Reclaim(functools.partial(sampler.sample, max_age_s=0), roster.committed_bytes, changed.set)
            supervisor = Supervisor(
                starter,
                tasks,
                roster,
                patience=Patience(
                    own.ready_timeout_s,
                    own.drain_s,
                    own.stop_grace_s,
                    ENDING_S + (SAVE_S if own.kv_snapshot_bytes else 0),
                    min(health_interval_s, own.orphan_s / 4),
                    own.orphan_s,
                ),
                metrics=metrics,
                reclaim=reclaim,
                measure=functools.partial(_measured, sampler),
            )
            strangers = await take_over(ledger, logs_dir, supervisor)
            addresses = tasks.create_task(_addresses(settings, address), name="addresses")
            found = tasks.create_task(asyncio.to_thread(engines.installed), name="engines")
            library = stack.enter_context(
                closing(
                    Library(
                        Catalogue(models_dir(own.models_dir, data), settings.aliases),
                        Records(data / "models-known", ModelRecord),
                        in_use=lambda: {ref for record in supervisor.workers() if record.live for ref in record.refs},
                        budget_bytes=own.models_budget_bytes,
                        changed=changed.set,
                        clock_ms=_now_ms,
                    )
                )
            )
            downloads = Downloads(
                library,
                Records(data / "downloads", DownloadRecord),
                tasks=tasks,
                at_once=own.downloads_at_once,
                token=settings.token,
                metrics=metrics,
                changed=changed.set,
                check=functools.partial(_runnable, found),
                clock_ms=_now_ms,
                patience=download_patience,
            )
            await library.open()
            await downloads.open()
            readahead, servers = (
                ReadAhead(tasks),
                Servers(settings.servers, settings.aliases, changed=changed.set, clock_ms=_now_ms),
            )
            pool = app[POOL] = Pool(
                settings,
                addresses=addresses,
                library=library,
                servers=servers,
                downloads=downloads,
                readahead=readahead,
                sampler=sampler,
                reclaim=reclaim,
                supervisor=supervisor,
                engines=found,
                instance=mark,
                clock_ms=_now_ms,
            )
            metrics.registry.register(
                Facts(
                    pool.newest_devices,
                    lambda: (record.status for record in supervisor.workers()),
                    lambda: sampler.cost_s,
                )
            )

            async def drain() -> None:
                if own.keep_workers and supervisor.can_hand_over:
                    supervisor.hand_over()
                await supervisor.close()

            app[DRAIN] = drain
            watching = tasks.create_task(watch_strangers(strangers, supervisor), name="strangers")
            proving = tasks.create_task(reclaim.run(), name="reclaim")
            sweeping = tasks.create_task(
                keep_swept(data / SNAPSHOTS, wanted=own.kv_snapshot_bytes > 0), name="snapshots"
            )
            asking = tasks.create_task(servers.run(), name="servers")
            loops: list[asyncio.Task[object]] = [addresses, found, watching, proving, sweeping, asking]
            registration = app[REGISTRATION] = Registration(pool, changed, tasks=tasks, token=settings.token)
            if own.orchestrator:
                registration.begin(own.orchestrator.rstrip("/"))
            yield
            await downloads.close()
            await readahead.close()
            await drain()
            # Of workers that go on the orchestrator would give up the jobs, if it were told that their pool ends.
            await registration.end(goodbye=not supervisor.handing_over)
            for loop in loops:
                loop.cancel()
            await asyncio.wait(loops)

    return create_app(ENDPOINTS, lifetime, metrics=metrics, token=settings.token, guests=guests(settings))


def _launcher(settings: Settings, logs_dir: Path, snapshots: Path) -> ProcessLauncher:
    snapshot_bytes = settings.pool.kv_snapshot_bytes
    command = functools.partial(
        worker_command,
        config=settings.source,
        snapshots=snapshots if snapshot_bytes else None,
        snapshot_bytes=snapshot_bytes,
    )
    return ProcessLauncher(logs_dir, command)


async def _runnable(found: asyncio.Task[engines.Engines], ref: HubRef) -> None:
    """Refuse a checkpoint where no engine runs it: it is large, and would lie here in vain."""
    if names_one(ref.path):
        preflight.check_installed("safetensors", await asyncio.shield(found))


async def _addresses(settings: Settings, address: asyncio.Future[str]) -> Addresses:
    return find_addresses(settings, await address)


def models_dir(named: str, data: Path) -> Path:
    """Return where models are: the folder *named* in the settings, else one inside the data directory."""
    return expanded(named) if named else data / "models"


def _is_ours(roster: Roster, pid: int) -> bool:
    """Tell whether a process is part of one of the workers, each of which leads a session. Called in a thread."""
    return identity.session(pid) in roster.leaders()


async def _measured(sampler: Sampler, record: Record) -> int:
    """Return what the processes of a worker hold of its GPU; 0 where no driver tells."""
    if record.plan.backend != "cuda":
        return 0
    return await sampler.held_bytes(record.held_bytes, lambda pid: identity.session(pid) == record.pid)


# Commands that are a pool for a while have no --data-dir.
_ANOTHER = "[pool] data_dir or LLORCH_POOL_DATA_DIR"


def _prepare(data: Path) -> tuple[Path, Path]:
    """Make the data directory, for the owner alone; return where the workers' logs and records go."""
    logs_dir, workers_dir = data / "logs", data / "workers"
    try:
        for folder in (data, logs_dir, workers_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(13, os.strerror(13))
    except OSError as error:
        raise InvalidConfiguration(
            f"the pool's data directory {data} cannot be used: {error.strerror}; choose another: {_ANOTHER}"
        ) from None
    return logs_dir, workers_dir


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Be the only pool with this data directory, whose workers would otherwise have two owners. Blocks.

    The system frees the lock when a process ends, however it does; one that is just ending gets a moment. A command
    that is the pool for a while is no fault of the configuration: a service manager may try again.

    Raises:
        Conflict: Another pool has it.
    """
    with (data / "lock").open("ab") as lock:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Conflict(
                        f"another pool uses the data directory {data}; stop it, ask that one (--pool-url URL), "
                        f"or choose another directory: {_ANOTHER}"
                    ) from None
            time.sleep(LOCK_POLL_S)
        yield


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
