"""`llorch bench` against the real thing: figures that agree with each other. How fast it is, no test asks."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llorch.wire.tasks import TaskPage
from tests.e2e.processes import clean_environment, complaint, descendants, program, run, until, whole_system
from tests.support.ended import pid_ended

MACHINE = {"cpu", "cores", "memory_bytes", "system", "python", "llorch", "load_average"}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Return a folder in which the path of a socket has room."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


async def measured(*arguments: str) -> dict[str, Any]:
    """Run a measurement and return its JSON."""
    finished = await run("bench", *arguments, "--json")
    assert finished.status == 0, finished.stderr
    [line] = finished.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert set(found["machine"]) == MACHINE
    return found


def ordered(times: dict[str, float]) -> bool:
    """Tell whether percentiles are there and rise."""
    return 0 <= times["p50"] <= times["p95"] <= times["p99"]


def alive(pid: int) -> bool:
    """Tell whether a process runs."""
    return not pid_ended(pid)


async def test_a_running_system_is_measured_at_each_load_and_its_cold_start_apart(tmp_path: Path) -> None:
    async with whole_system(tmp_path) as system:
        load = ("--url", system.url, "--jobs", "6", "--in-flight", "1,3", "--max-tokens", "8")

        cold = await measured(*load)
        warm = await measured("system", *load)
        page = await system.client.send("GET", "/v2/tasks", TaskPage, params={"limit": "100"})
        shown = await run("bench", *load)
        refused = await run("bench", *load, "--model", "hiaku")

    assert cold["warm_up"]["cold"]
    assert 0 < cold["warm_up"]["load_ms"] <= cold["warm_up"]["ttft_ms"]
    assert not warm["warm_up"]["cold"]
    assert (warm["mode"], warm["same_machine"], warm["url"], warm["interrupted"]) == ("system", True, system.url, False)
    assert [one["in_flight"] for one in warm["levels"]] == [1, 3]
    for one in (*cold["levels"], *warm["levels"]):
        assert (one["jobs"], one["completed"], one["errors"]) == (6, 6, {})
        assert one["tokens_out"] == pytest.approx(one["tokens_per_s"] * one["seconds"], rel=0.01)
        assert one["completed"] == pytest.approx(one["jobs_per_s"] * one["seconds"], rel=0.01)
        assert all(ordered(one[times]) for times in ("ttft_ms", "tpot_ms", "queue_ms"))
    tokens = sum(task.tokens_out for task in page.tasks if isinstance(task.tokens_out, int))
    told = [one["tokens_out"] for found in (cold, warm) for one in (found["warm_up"], *found["levels"])]
    assert sum(told) == tokens
    assert len(page.tasks) == 26
    assert "TTFT P50/P95/P99" in shown.stdout
    assert "warm: a worker was there" in shown.stdout
    assert refused.status == 1
    assert complaint(refused.stderr).startswith("the first job failed: MODEL_NOT_FOUND: no model is called 'hiaku'")


async def test_ctrl_c_cancels_what_runs_and_shows_what_was_measured(tmp_path: Path) -> None:
    async with whole_system(tmp_path) as system:
        load = ("--url", system.url, "--jobs", "100000", "--in-flight", "3", "--max-tokens", "8", "--json")
        process = await asyncio.create_subprocess_exec(
            *(*program(), "bench", *load),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean_environment(),
        )

        async def tasks(status: str) -> int:
            params = {"status": status, "limit": "100"}
            return len((await system.client.send("GET", "/v2/tasks", TaskPage, params=params)).tasks)

        async def some_are_done() -> bool:
            return await tasks("completed") >= 10

        async def nothing_is_left() -> bool:
            return not any([await tasks(status) for status in ("queued", "dispatched", "running", "cancelling")])

        await until(some_are_done)
        process.send_signal(signal.SIGINT)
        out, errors = await process.communicate()
        await until(nothing_is_left)

    found = json.loads(out)
    [level] = found["levels"]
    assert process.returncode == 130, errors
    assert found["interrupted"]
    assert 0 < level["completed"] == level["jobs"] < found["jobs"]
    assert level["tokens_out"] >= level["completed"]


async def test_a_model_is_measured_alone_with_one_stream_and_with_all_slots() -> None:
    found = await measured(
        "model", "haiku", "--prompt-tokens", "40", "--new-tokens", "24", "--repeats", "2", "--slots", "2"
    )

    reading, writing = ([row for row in found["rows"] if row["test"] == test] for test in ("pp", "tg"))
    assert [(row["test"], row["streams"]) for row in found["rows"]] == [("pp", 1), ("tg", 1), ("pp", 2), ("tg", 2)]
    assert all(row["repeats"] == 2 and row["tokens_per_s"] > 0 for row in reading)
    assert all(30 <= row["tokens"] <= 42 for row in reading)
    assert all(2 <= row["tokens"] <= 24 for row in writing)
    for row in writing:  # what a busy machine hands over in one piece has taken no time
        assert row["tokens_per_s"] > 0 if row["repeats"] else row["tokens_per_s"] is None
    assert (found["mode"], found["slots"], found["architecture"], found["engine"]) == ("model", 2, "llama", "llamacpp")
    assert found["process_bytes"] > found["size_bytes"] > 0
    assert found["load_ms"] > 0


async def test_a_model_that_is_not_here_is_told_before_anything_starts(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.gguf"
    garbage.write_bytes(b"no model" * 100)

    missing = await run("bench", "model", str(tmp_path / "missing.gguf"))
    wrong = await run("bench", "model", str(garbage))
    misspelt = await run("bench", "overhead", "--model", "hiaku")

    assert [one.status for one in (missing, wrong, misspelt)] == [1, 1, 1]
    assert "there is no such file on this host" in complaint(missing.stderr)
    assert "GGUF" in complaint(wrong.stderr)
    assert "did you mean haiku?" in complaint(misspelt.stderr)


async def test_the_overhead_is_measured_both_ways_with_the_same_requests() -> None:
    few = ("--rounds", "3", "--in-flight", "1,2", "--max-tokens", "6", "--submit-s", "0.3")

    found = await measured("overhead", *few)

    assert [(pair["in_flight"], pair["rounds"], pair["samples"]) for pair in found["pairs"]] == [(1, 3, 3), (2, 3, 6)]
    for pair in found["pairs"]:
        direct, through = pair["direct"], pair["through"]
        assert pair["tokens_out"] <= 2 * pair["samples"] * 6
        assert pair["tokens_out"] % 2 == 0
        assert ordered(direct["ttft_ms"])
        assert ordered(through["ttft_ms"])
        assert pair["added_ttft_ms"]["p50"] == pytest.approx(
            through["ttft_ms"]["p50"] - direct["ttft_ms"]["p50"], abs=0.01
        )
        assert min(direct["tokens_per_s"], through["tokens_per_s"], pair["tokens_ratio"]) > 0
    submitted = found["submissions"]
    assert submitted["connections"] == 64
    assert submitted["jobs"] == pytest.approx(submitted["jobs_per_s"] * submitted["seconds"], rel=0.01)
    assert ordered(submitted["latency_ms"])
    assert found["orchestrator_bytes"] > 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only there the system tells a process of its parent's end")
async def test_a_measurement_that_is_killed_leaves_no_worker_behind(short_folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*program(), "bench", "model", "haiku", "--repeats", "100000"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=clean_environment({"TMPDIR": str(short_folder)}),
    )

    async def engine_runs() -> list[int] | None:
        found = descendants(process.pid)
        return found if len(found) >= 2 else None

    async def all_gone() -> bool:
        return not any(alive(pid) for pid in started)

    started = await until(engine_runs)
    process.kill()
    await process.wait()

    await until(all_gone)
