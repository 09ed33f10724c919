"""Tokens/s through the whole system beside the bare engine, pair by pair: python -m tests.bench.system [MODEL].

Without MODEL, one of 1.1 B random parameters in Q4_0 is made (0.6 GB, half a minute). Both have the same engine, slots
and threads, and take turns on the same machine, so the ratio holds while the machine's speed drifts.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import gguf
import psutil
import uvloop

from tests.bench.load import streams
from tests.bench.roles import llorch, script
from tests.support import models

TOKENS = 64
ROUNDS = 5
SLOTS = 4
CTX = 512
BILLION = models.Shape(n_embd=2048, n_layer=22, n_head=32, n_ff=5632, ctx=2048)


def _rate(port: int, path: str, task: dict[str, object], count: int, mark: bytes) -> float:
    done, seconds = uvloop.run(streams(port, path, json.dumps(task).encode(), count=count, mark=mark))
    assert all(one.ended for one in done), done
    return count * TOKENS / seconds


def _compare(model: Path, data: str) -> None:
    ref = f"file:{model}"
    options = {"LLORCH_WORKER_SLOTS": str(SLOTS), "LLORCH_WORKER_CTX": str(CTX)}
    with (
        script("bare_engine", str(model), str(SLOTS), str(CTX)) as bare,
        llorch("serve", "all", "--port", "0", "--pool-port", "0", "--data-dir", data, env=options) as whole,
    ):
        ours = {
            "model": ref,
            "prompt": "one two three",
            "max_tokens": TOKENS,
            "temperature": 0,
            "timeout_ms": 1_800_000,
        }
        theirs = {"prompt": "one two three", "n_predict": TOKENS, "stream": True, "temperature": 0, "ignore_eos": True}
        _rate(whole.port, "/v2/tasks", ours, 1, b"event: token")
        _rate(bare.port, "/completion", theirs, 1, b"data: ")
        for count in (1, SLOTS):
            ratios = []
            for _ in range(ROUNDS):
                engine = _rate(bare.port, "/completion", theirs, count, b"data: ")
                system = _rate(whole.port, "/v2/tasks", ours, count, b"event: token")
                ratios.append(system / engine)
                print(f"{count} streams: engine {engine:8.2f} tokens/s, system {system:8.2f} tokens/s", flush=True)
            print(f"{count} streams: system / engine, median of {ROUNDS}: {statistics.median(ratios):.1%}", flush=True)


def main() -> None:
    """Make a model if none is given, compare, print."""
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/billion.gguf").resolve()
        if not model.exists():
            models.make(model, BILLION, quant=gguf.GGMLQuantizationType.Q4_0)
        _compare(model, folder)


if __name__ == "__main__":
    main()
