"""The torch engine's process: finds the device, loads one model onto it, and serves it.

Computing takes the interpreter lock too often to share a process with something that has to answer. The worker starts
this process, gives it its options as one JSON argument, and keeps a pipe to its stdin: where that ends, the worker is
gone, and so is this. What is said in both directions is in `torch_messages`.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil

from llorch import errors
from llorch.program import die_with_parent, with_extra
from roles.worker.backend.torch_messages import HostOptions, Loading, Ready, Refused, refused
from roles.worker.backend.torch_service import Outbox, Service
from roles.worker.llamacpp_host import SMALL_MODEL_BYTES

if TYPE_CHECKING:
    import torch

NEEDED = "the engine torch needs packages that cannot be loaded here"


def main(argv: list[str]) -> int:
    """Load the model and serve it until the worker ends or kills this process; return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C and a stop go to the whole group: the worker drains first
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
    pipe = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no answer
    out = Outbox(pipe)
    threading.Thread(target=out.write, daemon=True).start()
    asked: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(asked,), daemon=True).start()
    try:
        service = _load(msgspec.json.decode(argv[0], type=HostOptions), out)
    except errors.LlorchError as error:
        out.last(refused(error))
        return 1
    except ImportError as error:
        out.last(Refused("BackendUnavailable", f"{NEEDED} ({error}); {with_extra('torch')}"))
        return 1
    service.serve(asked)
    return 0


def _read(asked: queue.SimpleQueue[bytes]) -> None:
    """Pass on what the worker asks; end with it."""
    with os.fdopen(0, "rb") as pipe:
        for line in pipe:
            asked.put(line)
    os._exit(0)


def _load(options: HostOptions, out: Outbox) -> Service:
    import torch

    from roles.worker.backend import torch_weights
    from roles.worker.backend.torch_batching import Batching
    from roles.worker.backend.torch_config import read_shape
    from roles.worker.backend.torch_model import Model
    from roles.worker.backend.torch_template import ChatTemplate
    from roles.worker.backend.torch_tokenizer import Words

    folder = Path(options.folder)
    torch.set_num_threads(options.threads or _threads(folder))
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
    return Service(batching, words, ChatTemplate(folder), out)


def _threads(folder: Path) -> int:
    """Return one a core, but one in all for a small model: torch's threads wait for each other in a busy loop too."""
    if sum(path.stat().st_size for path in folder.glob("*.safetensors")) < SMALL_MODEL_BYTES:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
