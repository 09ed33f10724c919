"""Which engine a worker runs, by its options. An engine's own packages are imported only where it is chosen."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from llorch import errors
from llorch.models import ServerRef, parse_ref
from llorch.program import with_extra
from llorch.settings import Server
from llorch.wire.engine_options import fields_of
from roles.worker.backend import Engine
from roles.worker.backend.ctransformers_engine import CTransformers
from roles.worker.backend.llamacpp import LlamaCpp
from roles.worker.backend.llamacpp_options import parse_split
from roles.worker.backend.openai_engine import OpenAiServer
from roles.worker.backend.torch_engine import Torch
from roles.worker.options import WorkerOptions

NEEDED: Mapping[str, Sequence[str]] = {
    "ctransformers": ("ctransformers", "jinja2", "numpy"),
    "llamacpp": ("xllamacpp",),
    "openai": (),
    "torch": ("torch", "safetensors", "tokenizers", "jinja2"),
}
"""The packages of each engine that is built in."""


def check_options(options: WorkerOptions) -> None:
    """Refuse what no engine can be made of, before anything starts.

    Raises:
        BackendUnavailable: No such engine is built in, or its packages are not installed, or it does not have these
            options or does not compute there.
        InvalidConfiguration: The split names no devices, or the engine uses one device alone, or the server of a model
            is not configured.
    """
    told = fields_of(options.engine_options)
    if told and options.engine != "llamacpp":
        raise errors.BackendUnavailable(f"the engine {options.engine} does not have {', '.join(told)}; llamacpp does")
    if options.engine not in NEEDED:
        raise errors.BackendUnavailable(f"the engine {options.engine!r} is not built in; there is: {', '.join(NEEDED)}")
    missing = [package for package in NEEDED[options.engine] if find_spec(package) is None]
    if missing:
        raise errors.BackendUnavailable(
            f"the engine {options.engine} is not installed here, it lacks {', '.join(missing)}; "
            f"{with_extra(options.engine)}"
        )
    if parse_split(options.split) and options.engine != "llamacpp":
        raise errors.InvalidConfiguration(f"--split: the engine {options.engine} uses one device")
    if options.engine == "ctransformers" and options.backend != "cpu":
        raise errors.BackendUnavailable("the engine ctransformers computes on the CPU alone")
    if options.engine == "openai":
        served(options)


def served(options: WorkerOptions) -> tuple[ServerRef, Server]:
    """Return which model of which server a worker is for; raises as `check_options` does."""
    try:
        ref = parse_ref(options.model_ref)
    except errors.InvalidRequest:
        ref = None
    if not isinstance(ref, ServerRef):
        raise errors.InvalidConfiguration("the engine openai runs models of servers alone: server:NAME/MODEL")
    if options.server is None:
        raise errors.InvalidConfiguration(f"there is no [pool.servers.{ref.server}] in the configuration")
    return ref, options.server


def create_engine(
    options: WorkerOptions, tasks: asyncio.TaskGroup, launched: subprocess.Popen[bytes] | None = None
) -> Engine:
    """Return the engine, not loaded yet.

    Args:
        options: They have been checked.
        tasks: Owns what watches it.
        launched: A process for it, started ahead of time; see `llamacpp_launch`.
    """
    if options.engine == "openai":
        return OpenAiServer(tasks, *served(options))
    if options.engine == "torch":
        return Torch(
            tasks,
            options.model_path,
            backend=options.backend,
            device=options.device,
            dtype=options.dtype,
            slots=options.slots,
            ctx=options.ctx,
            threads=options.threads,
            batch=options.batch,
        )
    if options.engine == "ctransformers":
        return CTransformers(tasks, options.model_path, ctx=options.ctx, threads=options.threads, batch=options.batch)
    return LlamaCpp(
        tasks,
        options.model_path,
        backend=options.backend,
        device=options.device,
        split=parse_split(options.split),
        slots=options.slots,
        ctx=options.ctx,
        threads=options.threads,
        batch=options.batch,
        launched=launched,
        snapshots=options.snapshots,
        snapshot_bytes=options.snapshot_bytes,
        options=options.engine_options,
    )
