"""What a long conversation waits for when its model was away: python -m tests.bench.snapshots.

Two models, room for one. A conversation is held with the first; a request for the second makes the first go; then the
conversation goes on. Measured is the time to its next token, without and with `kv_snapshot_bytes`. The model that comes
back is in the page cache.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from tests.bench.roles import Process, llorch
from tests.support import models

SHAPE = models.Shape(n_embd=512, n_layer=8, n_head=8, n_ff=1408, ctx=4096)
ROOM_SHARE = 1.9
"""Of what the pool estimates for one."""
TURN = "bake kilo lima mike " * 500
ROUNDS = 2


def _ask(whole: Process, model: Path, prompt: str) -> tuple[float, dict[str, int]]:
    """Return the seconds to the first token, and the last event."""
    body = {"model": f"file:{model}", "prompt": prompt, "max_tokens": 8, "temperature": 0, "timeout_ms": 1_800_000}
    headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
    asked = urllib.request.Request(f"{whole.url}/v2/tasks", json.dumps(body).encode(), headers)
    began_s, first_s, kind = time.perf_counter(), 0.0, ""
    with urllib.request.urlopen(asked) as answer:
        for line in answer:
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
                first_s = first_s or (time.perf_counter() - began_s if kind == "token" else 0.0)
            elif line.startswith(b"data: ") and kind == "end":
                return first_s, json.loads(line[6:])
    raise SystemExit(f"the job ended with {kind}")


def _measure(folder: str, first: Path, second: Path, snapshot_bytes: int, room_bytes: int) -> None:
    data = f"{folder}/data-{snapshot_bytes}"
    with llorch("serve", "orchestrator", "--port", "0", "--data-dir", f"{data}/orchestrator") as orchestrator:
        env = {
            "LLORCH_POOL_MODELS_DIR": folder,
            "LLORCH_POOL_MEMORY_LIMIT_BYTES": str(room_bytes),
            "LLORCH_POOL_KV_SNAPSHOT_BYTES": str(snapshot_bytes),
            "LLORCH_WORKER_SLOTS": "2",
            "LLORCH_WORKER_CTX": "4096",
        }
        arguments = ("--port", "0", "--data-dir", f"{data}/pool", "--orchestrator", orchestrator.url)
        with llorch("serve", "pool", *arguments, env=env):
            found: list[tuple[float, int, int]] = []
            for number in range(ROUNDS):
                talk = f"{number} {TURN}"
                _ask(orchestrator, first, talk)
                _ask(orchestrator, second, "one")
                seconds, end = _ask(orchestrator, first, talk + "oscar papa")
                found.append((seconds, end["tokens_in"], end["tokens_cached"]))
                _ask(orchestrator, second, "one")
    seconds = statistics.median(one for one, _, _ in found)
    _, tokens, cached = found[-1]
    kept = f"up to {snapshot_bytes / 1e9:.0f} GB kept" if snapshot_bytes else "nothing kept"
    print(f"{kept}: next token after {seconds:.2f} s, {cached} of {tokens} tokens were there", flush=True)


def main() -> None:
    """Make the two models, measure, print."""
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "first.gguf", Path(folder) / "second.gguf"
        models.make(first, SHAPE)
        second.hardlink_to(first)
        cells = 2 * 4096 * SHAPE.n_layer * SHAPE.n_embd * 2 * 2
        room_bytes = round((first.stat().st_size + cells) * ROOM_SHARE)
        for snapshot_bytes in (0, 2_000_000_000):
            _measure(folder, first, second, snapshot_bytes, room_bytes)


if __name__ == "__main__":
    main()
