"""Wiring and lifetimes of the worker role, nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

from aiohttp import web
from prometheus_client import CollectorRegistry

from llorch.edge import ADDRESS, DRAIN, create_app
from roles.worker.api import CORE, END, ENDPOINTS, end_process
from roles.worker.backend.choice import check_options, create_engine
from roles.worker.core import Core
from roles.worker.metrics import WorkerMetrics
from roles.worker.options import WorkerOptions
from roles.worker.orphan import Contact

__all__ = ["WorkerOptions", "create"]


def create(options: WorkerOptions, launched: subprocess.Popen[bytes] | None = None) -> web.Application:
    """Build a worker: an app that loads one model while it already answers, and serves it for its life.

    The process is the worker: `POST /shutdown` sends itself SIGTERM, and a failure that it cannot survive (the model
    does not load, the pool refuses it, the engine dies) ends `llorch.serve.serve` with that one `LlorchError`.

    Args:
        options: How it was started.
        launched: A process for its engine, started ahead of time.

    Raises:
        BackendUnavailable: No such engine is built in.
        InvalidConfiguration: The split names no devices.
    """
    options = replace(
        options,
        worker_id=options.worker_id or str(uuid.uuid4()),
        model_ref=options.model_ref or f"file:{options.model_path.absolute()}",
    )
    check_options(options)
    metrics = WorkerMetrics(CollectorRegistry())
    contact = Contact(options.token, options.orphan_s)

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        address = app[ADDRESS] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as tasks:
            engine = create_engine(options, tasks, launched)
            core = app[CORE] = Core(options, engine, metrics=metrics, tasks=tasks)
            app[DRAIN] = core.drain
            loops = [
                tasks.create_task(core.run(address), name="worker"),
                tasks.create_task(core.sweep(), name="worker-sweep"),
                tasks.create_task(core.time_stops(), name="worker-stops"),
            ]
            if options.orphan_s:
                loops.append(tasks.create_task(contact.watch(lambda: core.jobs.busy > 0), name="worker-orphan"))
            try:
                yield
            finally:
                for loop in loops:
                    loop.cancel()
                core.abandon()
                await engine.close()

    app = create_app(
        ENDPOINTS,
        lifetime,
        metrics=metrics,
        token=options.token,
        guests=options.guests,
        max_body_bytes=options.max_body_bytes,
    )
    app[END] = end_process
    app.middlewares.append(contact.listen)
    return app
