"""Measures the orchestrator alone, side by side with a bare source: python -m tests.bench.orchestrator.

Prints durable submissions/s, relayed token events/s, added time to first token, and memory, with the machine. All
processes share this machine, so a figure is a lower bound for what the orchestrator can do on one of its own.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile

import psutil
import uvloop

from tests.bench.load import streams, submissions
from tests.bench.roles import llorch, script
from tests.bench.source import REF

TOKENS = 4_000


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1e3


def _show(name: str, value: str) -> None:
    print(f"{name:<58} {value}", flush=True)


def _submit() -> None:
    with tempfile.TemporaryDirectory() as data:
        env = {"LLORCH_ORCHESTRATOR_QUEUE_CAPACITY": "-1"}
        with llorch("serve", "orchestrator", "--port", "0", "--data-dir", data, env=env) as role:
            _show("orchestrator, memory idle", f"{role.memory_mb():.0f} MB")
            latencies = uvloop.run(submissions(role.port, connections=64, seconds=5, model="haiku"))
            rate = len(latencies) / 5
            _show(
                "durable submissions, 64 connections",
                f"{rate:,.0f} /s (p50 {_percentile(latencies, 0.5):.1f} ms, p99 {_percentile(latencies, 0.99):.1f} ms)",
            )
            _show(f"orchestrator, memory with {len(latencies):,} queued jobs", f"{role.memory_mb():.0f} MB")


async def _first_tokens(port: int, path: str, body: bytes, *, rounds: int, count: int) -> list[float]:
    seen: list[float] = []
    for _ in range(rounds):
        done, _ = await streams(port, path, body, count=count)
        seen += [one.first_token_s for one in done]
    return seen


def _relay() -> None:
    with (
        tempfile.TemporaryDirectory() as data,
        llorch("serve", "orchestrator", "--port", "0", "--data-dir", data) as role,
        script("source", str(TOKENS), role.url) as source,
    ):
        task = {"model": REF, "prompt": "x", "max_tokens": TOKENS}
        submit = json.dumps(task).encode()
        execute = json.dumps({"job_id": "bench", "prompt": "x", "max_tokens": TOKENS}).encode()
        uvloop.run(streams(role.port, "/v2/tasks", submit, count=1))
        for count in (1, 32):
            for name, port, path, body in (
                ("bare source", source.port, "/execute", execute),
                ("through the orchestrator", role.port, "/v2/tasks", submit),
            ):
                done, seconds = uvloop.run(streams(port, path, body, count=count))
                assert all(one.ended and one.tokens == TOKENS for one in done), done
                _show(f"token events, {count} streams, {name}", f"{count * TOKENS / seconds:,.0f} /s")
        short = json.dumps(task | {"max_tokens": 8}).encode()
        bare_short = json.dumps({"job_id": "bench", "prompt": "x", "max_tokens": 8}).encode()
        for count, rounds in ((1, 100), (32, 10)):
            bare = uvloop.run(_first_tokens(source.port, "/execute", bare_short, rounds=rounds, count=count))
            through = uvloop.run(_first_tokens(role.port, "/v2/tasks", short, rounds=rounds, count=count))
            added = (statistics.median(through) - statistics.median(bare)) * 1e3
            _show(f"added time to first token, {count} streams, p50", f"{added:.2f} ms")
        _show("orchestrator, memory after", f"{role.memory_mb():.0f} MB")


def main() -> None:
    """Run all measurements and print them."""
    _show("machine", f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}")
    _submit()
    _relay()


if __name__ == "__main__":
    main()
