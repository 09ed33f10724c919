"""The pool without HTTP: spawn after preflight, and the facts that people and the orchestrator are told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import UNSET
from msgspec.structs import replace

from llorch import __version__, config, models
from llorch.errors import CallerError, Conflict, Draining
from llorch.models import ServerRef
from llorch.settings import Settings
from llorch.wire.engine_options import files, options_of, scaled
from llorch.wire.models import Preloading
from llorch.wire.pools import Device, Heartbeat, Model, PoolStatus, Register, SpawnWorker
from llorch.wire.protocol import PROTOCOL
from roles.pool.gpu_inventory import reserve
from roles.pool.gpu_inventory.limit import limited
from roles.pool.gpu_inventory.sampler import Sampler
from roles.pool.model_cache.catalogue import ModelFile
from roles.pool.model_cache.downloads import Downloads
from roles.pool.model_cache.library import Library
from roles.pool.model_cache.readahead import ReadAhead, most
from roles.pool.servers import Servers
from roles.pool.worker_lifecycle import preflight, records
from roles.pool.worker_lifecycle.engines import Engines
from roles.pool.worker_lifecycle.extras import Extra, Extras
from roles.pool.worker_lifecycle.reclaim import Reclaim
from roles.pool.worker_lifecycle.records import Record
from roles.pool.worker_lifecycle.served import plan_served
from roles.pool.worker_lifecycle.supervisor import Home, Supervisor

ClockMs = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where this pool is: for others, for its own workers, and where those bind."""

    advertised: str
    callback: str
    worker_host: str

    @property
    def host(self) -> str:
        """The host that others reach this machine's workers by."""
        return urlsplit(self.advertised).hostname or ""


class Pool:
    """This host: its devices, model files and workers.

    Args:
        settings: `[pool]` and the defaults of `[worker]`.
        addresses: Where it is; known once the server is bound.
        library: Its model files.
        servers: Those that its configuration names.
        downloads: Those on their way.
        readahead: Reads files before workers need them.
        sampler: Its devices.
        reclaim: Marks those whose memory has not come back.
        supervisor: Its workers.
        engines: What is installed; looked up while the server already answers.
        instance: What only the pool with this data directory can know.
        clock_ms: Unix milliseconds.
    """

    def __init__(  # noqa: PLR0913 - the parts of a pool
        self,
        settings: Settings,
        *,
        addresses: asyncio.Future[Addresses],
        library: Library,
        servers: Servers,
        downloads: Downloads,
        readahead: ReadAhead,
        sampler: Sampler,
        reclaim: Reclaim,
        supervisor: Supervisor,
        engines: asyncio.Task[Engines],
        instance: str,
        clock_ms: ClockMs,
    ) -> None:
        self.pool_id = config.pool_id(settings.pool)
        self.supervisor = supervisor
        self.library = library
        self.servers = servers
        self.downloads = downloads
        self.registered = False
        self.orchestrator = ""
        self._settings = settings
        self._addresses = addresses
        self._readahead = readahead
        self._sampler = sampler
        self._reclaim = reclaim
        self._engines = engines
        self._instance = instance
        self._clock_ms = clock_ms
        self._started = time.monotonic()
        self._defaults = preflight.Defaults(settings.worker.slots, settings.worker.ctx, settings.worker.batch)
        self._reserve = reserve.parse(settings.pool.reserve_bytes, settings.pool.reserve)

    async def spawn(self, request: SpawnWorker) -> Record:
        """Start a worker, if the model is sound and there is room for it.

        Raises:
            InvalidRequest: The reference is not a resolved one.
            CallerError: Preflight's refusal.
            Draining: This pool is shutting down.
        """
        if self.supervisor.draining:
            raise Draining("this pool is shutting down and starts no workers", retry_after_s=5)
        parsed = models.parse_ref(request.model_ref)
        if isinstance(parsed, ServerRef):
            return await self._start_served(parsed, request)
        refs = [request.model_ref, *files(request)]
        with self.library.holding(*refs):
            record = await self._start(request)
        for ref in refs:
            await self.library.used(ref)
        return record

    async def _start(self, request: SpawnWorker) -> Record:
        file = await self.library.inspect(request.model_ref)
        extras = await self._extras(file, request)
        engines = await asyncio.shield(self._engines)
        addresses = await asyncio.shield(self._addresses)
        roster = self.supervisor.roster
        pending = roster.pending()
        devices = self._reclaim.applied(self._usable(await self._sampler.sample(max_age_s=0)))
        # From here to the new record nothing else runs, so that two spawns cannot count on the same memory. A worker
        # that became ready since the devices were measured still counts as pending.
        plan = preflight.plan(
            file.metadata,
            request,
            devices=devices,
            commitments=roster.commitments(pending | roster.pending()),
            engines=engines,
            defaults=self._defaults,
            extras=extras,
        )
        home, weights = _home(addresses, request), file.metadata.weights_bytes
        return self.supervisor.start(file.ref, file.path, plan, home, weights_bytes=weights, options=extras.located)

    async def _extras(self, model: ModelFile, request: SpawnWorker) -> Extras:
        """Find the files that a worker is to have beside its model."""
        options = options_of(request)
        found = {ref: await self.library.inspect(ref) for ref in files(options)}
        extra = {ref: Extra(ref, file.path, file.metadata) for ref, file in found.items()}
        tokens = None
        if options.draft and model.metadata.form == found[options.draft].metadata.form == "gguf":
            tokens = (await self.library.tokens(model), await self.library.tokens(found[options.draft]))
        return Extras(
            options,
            lora=[extra[scaled(adapter)[0]] for adapter in options.lora],
            draft=extra.get(options.draft),
            projector=extra.get(options.projector),
            tokens=tokens,
        )

    async def _start_served(self, ref: ServerRef, request: SpawnWorker) -> Record:
        server = await self.servers.wanted(ref)
        addresses = await asyncio.shield(self._addresses)
        roster = self.supervisor.roster
        pending = roster.pending()
        devices = self._reclaim.applied(self._usable(await self._sampler.sample(max_age_s=0)))
        # As above, nothing else runs from here on.
        if any(record.live and record.model_ref == request.model_ref for record in roster.all()):
            raise Conflict("a worker here serves that model already; a server has all its slots in one")
        commitments = roster.commitments(pending | roster.pending())
        plan = plan_served(server, request, devices=devices, commitments=commitments)
        return self.supervisor.start(request.model_ref, Path(request.model_ref), plan, _home(addresses, request))

    async def preload(self, model_ref: str) -> Preloading:
        """Read a model's file ahead, because a worker is soon to load it.

        Raises:
            CallerError: No such model is here.
        """
        file = await self.library.inspect(model_ref)
        ram = next((device for device in await self._sampler.sample() if device.backend == "cpu"), None)
        size = most(file.size_bytes, ram.memory_free_bytes if ram is not None else 0)
        begun = size > 0 and self._readahead.begin(model_ref, file.paths)
        return Preloading(model_ref, size if begun else 0)

    async def models(self) -> list[Model]:
        """Return the sound models of this host that an engine here can run, and what its servers have."""
        found: list[Model] = []
        engines = await asyncio.shield(self._engines)
        for model in await self.library.models():
            with contextlib.suppress(CallerError):  # it went away just now
                metadata = (await self.library.inspect(model.model_ref)).metadata
                if preflight.runs_here(metadata, engines):
                    found.append(preflight.sized(model, metadata, self._defaults, engines))
        return found + self.servers.models(self._sampler.newest)

    async def devices(self) -> list[Device]:
        """Return the devices, each with what this pool's workers hold of it."""
        return self._seen(await self._sampler.sample())

    def newest_devices(self) -> list[Device]:
        """Return the devices as last measured, without waiting."""
        return self._seen(self._sampler.newest)

    def _seen(self, devices: Iterable[Device]) -> list[Device]:
        return self._reclaim.applied(allocated(self._usable(devices), self.supervisor.workers()))

    def _usable(self, devices: Iterable[Device]) -> list[Device]:
        """Return *devices* as this pool may use them."""
        taken = _held(record for record in self.supervisor.workers() if record.was_ready)
        return self._reserve.applied(limited(devices, taken, limit_bytes=self._settings.pool.memory_limit_bytes))

    async def status(self) -> PoolStatus:
        """Return everything that people are told; no token is in it."""
        return PoolStatus(
            pool_id=self.pool_id,
            version=__version__,
            uptime_s=round(time.monotonic() - self._started, 3),
            draining=self.supervisor.draining,
            devices=await self.devices(),
            workers=[records.view(record) for record in self.supervisor.workers()],
            models=await self.models(),
            disk=await self.library.disk(),
            downloads=self.downloads.downloads(),
            orchestrator=self.orchestrator or UNSET,
            registered=self.registered,
            protocol=PROTOCOL,
        )

    async def register(self) -> Register:
        """Return what the orchestrator is told first."""
        addresses = await asyncio.shield(self._addresses)
        devices, models = await self.devices(), await self.models()
        return Register(
            pool_id=self.pool_id,
            endpoint=addresses.advertised,
            version=__version__,
            devices=devices,
            models=models,
            workers=[records.report(record, host=addresses.host) for record in self.supervisor.workers()],
            downloads=self.downloads.news(),
            instance=self._instance,
            protocol=PROTOCOL,
        )

    async def heartbeat(self, seq: int) -> Heartbeat:
        """Return what the orchestrator is told again and again."""
        addresses = await asyncio.shield(self._addresses)
        devices, models = await self.devices(), await self.models()
        return Heartbeat(
            seq=seq,
            time_ms=self._clock_ms(),
            devices=devices,
            models=models,
            workers=[records.report(record, host=addresses.host) for record in self.supervisor.workers()],
            downloads=self.downloads.news(),
            draining=self.supervisor.draining,
        )


def _home(addresses: Addresses, request: SpawnWorker) -> Home:
    return Home(addresses.worker_host, addresses.callback, 0 if request.port is UNSET else request.port)


def allocated(devices: Iterable[Device], workers: Iterable[Record]) -> list[Device]:
    """Return *devices*, each with the memory that living *workers* hold of it."""
    held = _held(workers)
    return [replace(device, memory_allocated_bytes=held.get(device.id, 0)) for device in devices]


def _held(workers: Iterable[Record]) -> dict[str, int]:
    """Return what living workers hold, by device."""
    held: dict[str, int] = {}
    for record in workers:
        for device, size in record.held_bytes.items() if record.live else ():
            held[device] = held.get(device, 0) + size
    return held


def find_addresses(settings: Settings, bound_url: str) -> Addresses:
    """Return where this pool is, once it is bound.

    Workers call back from this machine: to a loopback address where the pool listens on one, else to the one address
    that it listens on. They are reachable from outside exactly when the pool is.

    Args:
        settings: `[pool]` host and advertise, `[worker]` host.
        bound_url: The URL that the server has.
    """
    host = settings.pool.host
    port = urlsplit(bound_url).port or 80
    inside = config.near_host("127.0.0.1" if host == "localhost" else host)
    return Addresses(
        advertised=(settings.pool.advertise or bound_url).rstrip("/"),
        callback=f"http://{inside}:{port}",
        worker_host=settings.worker.host if config.is_loopback(host) else host,
    )
