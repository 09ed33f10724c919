"""How near the torch engine comes to the device's memory, with llama.cpp beside it: python -m tests.bench.torch_engine.

Needs the packages of the torch engine (`.venv-torch-test/bin/python` has them). A llama of random numbers is written as
safetensors and as GGUF, both loaded in bfloat16 as a worker does, and asked for 1, 8 and 32 texts at once. Counted are
tokens between the moment when all of them are being written and the first one's end. To write one token of each text,
all weights have to be read once: that, at the speed at which the device copies, is the limit beside each figure. With
`--backend cuda` torch computes there, and llama.cpp stays on the CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import gguf
import torch

from llorch import log
from llorch.cli.bench_machine import described, this_machine
from llorch.settings import Log
from llorch.wire.pools import Backend
from llorch.wire.tasks import Sampling
from roles.pool.model_cache import checkpoint
from roles.worker.backend import Engine
from roles.worker.backend.llamacpp import LlamaCpp
from roles.worker.backend.torch_engine import Torch
from tests.support import checkpoints, models
from tests.support.models import Shape

SIZES = {
    "1b": Shape(n_embd=2048, n_layer=22, n_head=32, n_kv_head=4, n_ff=5632, ctx=512, unused=31_300),
    "80m": Shape(n_embd=768, n_layer=12, n_head=12, n_kv_head=4, n_ff=2048, ctx=512),
    "10m": Shape(n_embd=384, n_layer=6, n_head=6, n_kv_head=2, n_ff=1024, ctx=512),
}
AT_ONCE = (1, 8, 32)
PROMPT_TOKENS = 16
LEAST_TOKENS = 2 * max(AT_ONCE)
"""The torch engine reads one prompt a step: the first text is that many tokens long when the last one begins."""
NUMBER_BYTES = 2
COPIED_BYTES = 256 * 1024 * 1024
COPIES = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured."""

    size: str
    backend: Backend
    threads: int
    tokens: int


def copied_bytes_per_s(options: Options) -> float:
    """Return the bytes that the device reads and writes in a second while it copies: the best of a few times."""
    device = torch.device(options.backend)
    torch.set_num_threads(options.threads)
    source = torch.ones(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    best_s = float("inf")
    for _ in range(COPIES + 1):
        began_s = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best_s = min(best_s, time.perf_counter() - began_s)
    return 2 * COPIED_BYTES / best_s


def limit_per_s(shape: Shape, folder: Path, options: Options, *, at_once: int, bytes_per_s: float) -> float:
    """Return the tokens in a second that reading weights and KV cache alone would allow."""
    found = checkpoint.read(folder)
    weights = (found.parameters - found.vocab_size * found.embedding_length) * NUMBER_BYTES  # of embeddings, a row
    cell = 2 * shape.n_layer * shape.kv_heads * shape.head_size * NUMBER_BYTES
    cells = PROMPT_TOKENS + options.tokens // 2
    return at_once * bytes_per_s / (weights + at_once * cells * cell)


@asynccontextmanager
async def loaded(name: str, folder: Path, file: Path, options: Options) -> AsyncIterator[Engine]:
    """Run one of the two engines, with a slot for each text."""
    slots, ctx, threads = max(AT_ONCE), PROMPT_TOKENS + options.tokens + 1, options.threads
    async with asyncio.TaskGroup() as tasks:
        engine: Engine = LlamaCpp(tasks, file, slots=slots, ctx=ctx, threads=threads)
        if name == "torch":
            engine = Torch(tasks, folder, backend=options.backend, slots=slots, ctx=ctx, threads=threads)
        try:
            await engine.load(lambda _: None)
            yield engine
        finally:
            await engine.close()


async def written_per_s(engine: Engine, options: Options, at_once: int) -> float:
    """Return the tokens that so many texts together get in a second."""
    prompts = [[300 + (number + place) % 90 for place in range(PROMPT_TOKENS)] for number in range(at_once)]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(_times(engine, prompt, options.tokens)) for prompt in prompts]
    texts = [task.result() for task in running]
    begin_s, end_s = max(times[0] for times in texts), min(times[-1] for times in texts)
    return sum(begin_s < at_s <= end_s for times in texts for at_s in times) / (end_s - begin_s)


async def _times(engine: Engine, prompt: Sequence[int], count: int) -> list[float]:
    """Return when each token of a text came."""
    found: list[float] = []
    async with aclosing(engine.generate(prompt, Sampling(temperature=0.0), max_tokens=count, seed=1)) as steps:
        async for chunks in steps:
            found += [time.perf_counter()] * (max((chunk.tokens_out for chunk in chunks), default=0) - len(found))
    return found


async def measure(options: Options) -> None:
    """Make the model, measure, print."""
    shape = SIZES[options.size]
    print(described(this_machine()))
    bytes_per_s = copied_bytes_per_s(options)
    name = torch.cuda.get_device_name() if options.backend == "cuda" else f"the CPU, {options.threads} threads"
    print(f"torch {torch.__version__} on {name}: copies {bytes_per_s / 1e9:.1f} GB/s, read and written together")
    with tempfile.TemporaryDirectory() as place:
        folder = checkpoints.make(Path(place, "model"), shape)
        file = models.make(Path(place, "model.gguf"), shape, quant=gguf.GGMLQuantizationType.BF16)
        print(f"a llama of {checkpoint.read(folder).parameters / 1e6:.0f} M parameters in bfloat16", flush=True)
        for engine_name in ("torch", "llamacpp"):
            async with loaded(engine_name, folder, file, options) as engine:
                await written_per_s(engine, options, 1)
                for at_once in AT_ONCE:
                    found = await written_per_s(engine, options, at_once)
                    limit = limit_per_s(shape, folder, options, at_once=at_once, bytes_per_s=bytes_per_s)
                    beside = f", {found / limit:.0%} of the limit of {limit:.1f}"
                    told = beside if engine_name == "torch" or options.backend == "cpu" else " on the CPU"
                    print(f"{engine.name}, {at_once:2} at once: {found:.1f} tokens/s{told}", flush=True)
    print(f"load average {os.getloadavg()[0]:.1f} at the end")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--size", choices=SIZES, default="1b", help="80m is quick on two cores that are free, 10m on busy ones"
    )
    parser.add_argument("--backend", choices=("cpu", "cuda"), default="cpu", help="what torch computes on")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the CPU")
    parser.add_argument("--tokens", type=int, default=3 * max(AT_ONCE), help=f"of each text, at least {LEAST_TOKENS}")
    asked = parser.parse_args()
    if asked.tokens < LEAST_TOKENS:
        parser.error(f"--tokens must be at least {LEAST_TOKENS}")
    log.configure(Log(level="warning"))
    asyncio.run(measure(Options(asked.size, asked.backend, asked.threads, asked.tokens)))


if __name__ == "__main__":
    main()
