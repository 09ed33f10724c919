"""Runs a worker; and a worker as its pool starts it: `llorch __worker ID OPTIONS`.

A pool needs no command line that people understand. Without one, and without what only a terminal needs, a worker is up
a third sooner.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Literal

import msgspec

from llorch.cli.complaints import told, told_group
from llorch.errors import LlorchError
from llorch.settings import Server, Settings
from llorch.wire.engine_options import EngineOptions, options_of, renamed
from llorch.wire.pools import Backend, Engine


class Told(EngineOptions, frozen=True, kw_only=True):
    """What a worker is told, beside its settings."""

    model: str
    model_ref: str = ""
    worker_id: str = ""
    backend: Backend = "cpu"
    device: str = ""
    split: str = ""
    engine: Engine = "llamacpp"
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    callback_url: str = ""
    orphan_s: float = 0.0
    snapshots: str = ""
    snapshot_bytes: int = 0


class Pooled(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool gives its worker: what it is told, settings of `[worker]` above those of the file, and that file."""

    told: Told
    worker: dict[str, str | int]
    config: str = ""


def main(arguments: Sequence[str]) -> int:
    """Run the worker that a pool has started; return its exit status.

    Args:
        arguments: Its id, by which its process is known, and a `Pooled` as JSON.
    """
    sys.modules["rich"] = None  # type: ignore[assignment]  # structlog would load it, for tracebacks on a terminal
    from roles.worker.llamacpp_launch import launch

    try:
        pooled = msgspec.json.decode(arguments[1], type=Pooled)
        launched = launch() if pooled.told.engine == "llamacpp" else None
        import llorch.tls  # noqa: F401 - before anything else imports aiohttp
        from llorch.config import load

        return run(load(pooled.config or None, overrides={"worker": pooled.worker}), pooled.told, launched)
    except LlorchError as error:
        return told(error)
    except BaseExceptionGroup as group:
        return told_group(group)


def run(found: Settings, options: Told, launched: subprocess.Popen[bytes] | None = None) -> int:
    """Run a worker until it is told to stop; return its exit status.

    Args:
        found: The settings.
        options: What it is told beside them.
        launched: A process for its engine, started ahead of time.

    Raises:
        LlorchError: It cannot go on.
    """
    from llorch import log
    from llorch.config import expanded
    from llorch.models import server_name
    from llorch.origins import guests
    from llorch.program import WORKER_TOKEN_VARIABLE
    from llorch.serve import Site, serve
    from llorch.serve import run as served
    from roles.worker.app import WorkerOptions, create

    log.configure(found.log)
    own = found.worker
    token = os.environ.get(WORKER_TOKEN_VARIABLE, "")
    of_server = bool(server_name(options.model))
    model_ref = options.model_ref or (options.model if of_server else "")
    worker = WorkerOptions(
        model_path=expanded(options.model),
        model_ref=model_ref,
        worker_id=options.worker_id,
        token=token,
        callback_url=ready_url(options.callback_url),
        backend=options.backend,
        device=options.device,
        split=options.split,
        engine="openai" if of_server else options.engine,
        dtype=options.dtype,
        slots=own.slots,
        ctx=own.ctx,
        threads=own.threads,
        batch=own.batch,
        reattach_s=own.reattach_s,
        orphan_s=options.orphan_s,
        snapshots=options.snapshots,
        snapshot_bytes=options.snapshot_bytes,
        engine_options=renamed(options_of(options), lambda path: str(expanded(path))),
        server=server_of(found, model_ref),
        guests=guests(found),
    )
    return served(lambda: serve([Site(create(worker, launched), own.host, own.port)], token=token))


def server_of(found: Settings, model_ref: str) -> Server | None:
    """Return the server that a reference names, if it is one of a server that is configured."""
    from llorch.models import server_name

    return found.servers.get(server_name(model_ref))


def ready_url(pool_url: str) -> str:
    """Return where a worker tells its pool that it is ready; a URL that has a path already is taken as it is."""
    from urllib.parse import urlsplit

    if not pool_url or urlsplit(pool_url).path not in {"", "/"}:
        return pool_url
    return pool_url.rstrip("/") + "/v2/internal/workers/ready"
