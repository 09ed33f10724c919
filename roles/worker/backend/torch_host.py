"""The torch engine's process: finds the device, loads one model onto it, and serves it; see `engine_process`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil

from llorch import errors
from roles.worker.backend.engine_messages import Loading, Ready
from roles.worker.backend.engine_process import run, threads_for
from roles.worker.backend.engine_service import Outbox, Service

if TYPE_CHECKING:
    import torch


class HostOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine process is told; `ctx` is one slot's, 0 for the model's own up to `max_ctx`.

    `device_index` is the GPU's number as it is seen with that `environment`; see `gpus`.
    """

    folder: str
    backend: str
    device_index: int
    environment: dict[str, str]
    dtype: str
    slots: int
    ctx: int
    max_ctx: int
    threads: int
    batch: int


def main(argv: list[str]) -> int:
    """Load the model and serve it until the worker ends or kills this process; return the exit status."""
    options = msgspec.json.decode(argv[0], type=HostOptions)
    os.environ.update(options.environment)
    return run("torch", lambda out: _load(options, out))


def _load(options: HostOptions, out: Outbox) -> Service:
    import torch

    from roles.worker.backend import torch_weights
    from roles.worker.backend.chat_template import template_of
    from roles.worker.backend.torch_batching import Batching
    from roles.worker.backend.torch_config import read_shape
    from roles.worker.backend.torch_model import Model
    from roles.worker.backend.torch_tokenizer import Words

    folder = Path(options.folder)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    torch.set_num_threads(options.threads or threads_for(size))
    device = _device(options)
    shape = read_shape(_config(folder), _maybe(folder / "generation_config.json"))
    words = Words(folder, shape.vocab_size)
    weights = torch_weights.load(
        folder,
        shape,
        dtype=getattr(torch, options.dtype),
        device=device,
        on_progress=lambda percent: out.put(Loading(percent)),
    )
    ctx = min(options.ctx or options.max_ctx, shape.context_length)
    model = Model(shape, weights, slots=options.slots, ctx=ctx)
    batching = Batching(model, slots=options.slots, piece=options.batch, reuse=options.slots > 1)
    out.put(Ready(ctx, shape.vocab_size, _memory_bytes(device)))
    return Service(batching, words, template_of(folder), out)


def _config(folder: Path) -> bytes:
    try:
        return (folder / "config.json").read_bytes()
    except OSError:
        raise errors.ModelNotFound(
            f"there is no model in the folder {folder.name}: it has no config.json; give the folder of one in "
            "safetensors form"
        ) from None


def _maybe(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _device(options: HostOptions) -> torch.device:
    import torch

    found: list[str] = []
    if options.backend == "cpu":
        return torch.device("cpu")
    if options.backend == "metal" and torch.backends.mps.is_available():
        return torch.device("mps")
    if options.backend == "cuda":
        found = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        if options.device_index < len(found):
            return torch.device("cuda", options.device_index)
    raise errors.BackendUnavailable(
        f"no such {options.backend} device can be used here; there is: {', '.join(found) or 'none'}"
    )


def _memory_bytes(device: torch.device) -> int:
    import torch

    if device.type == "cuda":
        return int(torch.cuda.memory_reserved(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    return int(psutil.Process().memory_info().rss)
