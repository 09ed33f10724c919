"""The engine process: llama.cpp's own server on a private Unix socket, and nothing else.

xllamacpp holds the interpreter lock for as long as a model loads, so it cannot share a process with something that
has to answer. The worker starts this process, writes its options as one line of JSON to its stdin, and keeps that pipe:
when the worker is gone, so is this. It reports on stdout, one line each:
`cmd_child_to_router:state:{…}` by llama.cpp itself (loading, ready) and `llorch:{…}` by this file. Imports only the
standard library, xllamacpp and a few lines of ours, so that it starts fast.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
from typing import Any

from llorch.program import die_with_parent

REPORT = "llorch:"
NO_DEVICE_STATUS = 3
SMALL_MODEL_BYTES = 64 * 1024 * 1024
ALL_LAYERS = 999
PICTURE_BATCH = 512
"""Some models read a picture whole: its tokens look at each other, and have to be in one batch."""
NUMBERS = {"f32", "f16", "bf16"}
"""Types of the KV cache that are not quantised."""
DEVICE_NAMES = {"cuda": ("cuda", "rocm", "hip", "musa"), "metal": ("metal", "mtl")}


def main() -> int:
    """Load the model that stdin names and serve it until the worker ends or kills this; return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C and a stop go to the whole group: the worker drains first
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with_parent()
    os.environ["LLAMA_SERVER_ROUTER_PORT"] = "1"  # makes llama.cpp report its progress, and watch stdin
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as the driver's management library numbers them
    import xllamacpp

    told = _line()
    if not told:
        return 0  # the worker has ended before it knew what to load
    options = json.loads(told)
    os.environ.update(options["environment"])  # read when a device is first looked for
    if options["backend"] != "cpu":
        devices = xllamacpp.get_device_info()
        if not any(_is_a(device, options["backend"]) for device in devices):
            _report({"devices": [device["name"] for device in devices]})
            return NO_DEVICE_STATUS
    try:
        server = xllamacpp.Server(_parameters(xllamacpp, options))
    except RuntimeError:
        return 1  # llama.cpp has written the reason to stderr
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # llama.cpp has just taken both
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Event().wait()
    del server
    return 0


def _parameters(xllamacpp: Any, options: dict[str, Any]) -> object:  # noqa: ANN401 - an untyped extension module
    gpu = options["backend"] != "cpu"
    p = xllamacpp.CommonParams()
    p.model.path = options["model_path"]
    p.hostnames = [options["socket"]]
    p.api_keys = [options["key"]]
    p.ui = False
    p.endpoint_slots = True
    if options.get("snapshots"):
        p.slot_save_path = options["snapshots"] + "/"
        os.umask(0o077)
    p.n_parallel = options["slots"]
    p.n_ctx = options["ctx"] * options["slots"]  # divided among the slots
    batch = max(options["batch"], PICTURE_BATCH) if options["projector"] else options["batch"]
    p.n_batch = p.n_ubatch = batch  # a cancel takes effect between batches
    if options.get("pooling"):
        p.embedding = True
        p.pooling_type = xllamacpp.llama_pooling_type(options["pooling"])
        last = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
        p.kv_unified = p.pooling_type != last  # else texts that are read together are cut, and only ends are pooled
    p.ctx_shift = False  # a full context ends the output, it never forgets silently
    p.cache_ram_mib = 0  # otherwise up to 8 GiB of old prompts that no memory estimate knows of
    p.fit_params = False  # what was asked for, or an error
    p.n_gpu_layers = ALL_LAYERS if gpu else 0
    if gpu and options["split"]:
        p.split_mode = xllamacpp.llama_split_mode.LLAMA_SPLIT_MODE_LAYER
        p.tensor_split = _proportions(options["split"], len(p.tensor_split))
    elif gpu:
        p.split_mode = xllamacpp.llama_split_mode.LLAMA_SPLIT_MODE_NONE  # by default it is laid over all there are
        p.main_gpu = options["device_index"]
    threads = options["threads"] or _threads(options["model_path"])
    p.cpuparams.n_threads = threads
    p.cpuparams_batch.n_threads = threads
    _extras(xllamacpp, p, options, gpu=gpu, threads=threads)
    p.verbosity = 3
    return p


def _extras(xllamacpp: Any, p: Any, options: dict[str, Any], *, gpu: bool, threads: int) -> None:  # noqa: ANN401 - see above
    """Tell of the KV cache's type, and of the files beside the model."""
    kv_type = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{options['kv_type'].upper()}")
    p.cache_type_k = p.cache_type_v = kv_type
    if options["kv_type"] not in NUMBERS:
        p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED  # or V cannot be quantised
    p.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, scale) for path, scale in options["lora"]]
    if options["draft"]:
        p.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        draft = p.speculative.draft
        draft.mparams.path = options["draft"]
        draft.n_gpu_layers = ALL_LAYERS if gpu else 0
        draft.cache_type_k = draft.cache_type_v = kv_type
        draft.cpuparams.n_threads = draft.cpuparams_batch.n_threads = threads
    if options["projector"]:
        p.mmproj.path = options["projector"]
        p.mmproj_use_gpu = gpu
        p.video_ffmpeg_bin_dir = os.devnull  # what is no image is refused, and no program is started to look at it


def _proportions(split: dict[str, int], length: int) -> list[float]:
    """Return how much of the model each device gets, by its number; JSON has made texts of those."""
    return [float(split.get(str(index), 0)) for index in range(length)]


def _threads(model_path: str) -> int:
    """Return one a core, but one in all for a small model.

    llama.cpp's threads wait for each other in a busy loop several times a token. Where something else wants the same
    core, that costs a time slice each: a 3 MB model took 18 s for 36 tokens with two threads, and 0.02 s with one.
    """
    if os.path.getsize(model_path) < SMALL_MODEL_BYTES:  # noqa: PTH202 - this process imports next to nothing
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_a(device: dict[str, Any], backend: str) -> bool:
    name: str = device["name"]
    return name.lower().startswith(DEVICE_NAMES[backend])


def _line() -> bytes:
    """Return the first line of stdin, all that is written before the model is loaded; empty at its end."""
    line = b""
    while not line.endswith(b"\n"):
        found = os.read(0, 65_536)
        if not found:
            return b""
        line += found
    return line


def _report(fact: dict[str, object]) -> None:
    print(REPORT + json.dumps(fact), flush=True)  # noqa: T201 - this is how it speaks to the worker


def _die_with_parent() -> None:
    """Arrange to be killed with the worker, also while llama.cpp loads and nothing watches stdin yet."""
    die_with_parent()
    watch = select.poll()
    watch.register(0, select.POLLHUP)
    if any(event & select.POLLHUP for _, event in watch.poll(0)):  # it died before the line above
        sys.exit(1)
