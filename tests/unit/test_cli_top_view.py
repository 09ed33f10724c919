"""What fits on which screen: small, usual and large ones, quiet and busy systems, and what is left out first."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from llorch.cli import top_view as view
from llorch.cli.top_view import Look
from llorch.wire.operations import LiveJob, Overview
from llorch.wire.pools import Device, Model, Pool, PoolState, Worker

NOW_MS = 1_000_000
SIZES = [(80, 24), (40, 12), (200, 60), (20, 5), (60, 1)]


def device(number: int, used: int = 4) -> Device:
    """Return a device of 16 GiB, of which some are used."""
    return Device(
        id=f"cuda:{number}",
        uuid=f"GPU-{number}",
        name="NVIDIA GeForce RTX 3090",
        backend="cuda",
        memory_total_bytes=16 * 2**30,
        memory_used_bytes=used * 2**30,
        memory_free_bytes=(16 - used) * 2**30,
        utilization_percent=87.0,
        temperature_c=61.0,
    )


def worker(number: int, status: str = "busy", busy: int = 2) -> Worker:
    """Return a worker with four slots."""
    return Worker(
        worker_id=f"{number:08}-worker",
        model_ref="file:/builtin/haiku.gguf",
        status=status,  # type: ignore[arg-type]  # as the tests say
        backend="cuda",
        engine="llamacpp",
        device="cuda:0",
        slots=4,
        slots_busy=busy,
        context_length=96,
        memory_bytes=2**30,
        started_ms=1,
        progress=41.6,
    )


def pool(name: str, status: PoolState = "online", *, devices: int = 1, workers: int = 1) -> Pool:
    """Return a pool that was heard a minute ago."""
    haiku = Model(
        model_ref="file:/builtin/haiku.gguf",
        size_bytes=1,
        architecture="llama",
        quantization="Q8_0",
        context_length=96,
        vocab_size=1,
        max_token_bytes=1,
        aliases=["haiku"],
    )
    return Pool(
        pool_id=name,
        endpoint=f"http://{name}:9200",
        version="1",
        status=status,
        last_seen_ms=NOW_MS - 60_000,
        devices=[device(number) for number in range(devices)],
        models=[haiku],
        workers=[worker(number) for number in range(workers)],
    )


def job(number: int, status: str = "running") -> LiveJob:
    """Return a job, half a minute old."""
    fields: dict[str, object] = {"worker_id": "00000000-worker", "pool_id": "blep"} if status == "running" else {}
    return LiveJob(
        job_id=f"job{number:05}-rest",
        status=status,  # type: ignore[arg-type]  # as the tests say
        model="haiku",
        priority="interactive",
        submitted_ms=NOW_MS - 30_000,
        attempts=1,
        tokens_out=12,
        max_tokens=40,
        **fields,  # type: ignore[arg-type]  # as they are named
    )


def look(*pools: Pool, running: int = 1, queued: int = 0, batch: int = 0) -> Look:
    """Return a system, of whose running jobs each writes ten tokens a second."""
    jobs = [job(number) for number in range(running)] + [job(100 + n, "queued") for n in range(queued)]
    waiting = {"interactive": queued, "batch": batch}
    overview = Overview(time_ms=NOW_MS, waiting=waiting, running=running, finished_per_s=0.5, jobs=jobs)  # type: ignore[arg-type]
    return Look(overview, pools, {one.job_id: 10.0 for one in jobs[:running]})


def drawn(seen: Look, width: int, height: int, *, trouble: str = "") -> list[str]:
    """Return the lines of a screen."""
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(view.screen(seen, trouble=trouble, width=width, height=height), end="")
    return captured.get().rstrip("\n").split("\n")


BUSY = look(
    pool("workstation", devices=8, workers=12),
    pool("mac", "draining", workers=0),
    pool("blep", "offline", devices=0, workers=3),
    running=30,
    queued=50,
    batch=20,
)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("seen", [BUSY, look(), look(pool("blep"))], ids=["busy", "empty", "quiet"])
@pytest.mark.parametrize("trouble", ["", "away for 2.0 s: the orchestrator cannot be reached " + "x" * 300])
def test_nothing_goes_over_the_edge(seen: Look, width: int, height: int, trouble: str) -> None:
    lines = drawn(seen, width, height, trouble=trouble)

    assert len(lines) <= max(height, 2 + bool(trouble))  # what is over, the terminal's own screen cuts
    assert max(cell_len(line) for line in lines) <= width


def test_a_usual_screen_has_every_part() -> None:
    seen = look(pool("blep", devices=2), pool("mac", "draining", workers=0), running=2, queued=1, batch=7)

    lines = drawn(seen, 80, 24)

    assert lines[0] == "pools: 1 online, 1 draining · slots: 2/4 busy · 20.0 tokens/s"
    text = "\n".join(lines)
    assert "POOL" in text
    blep = next(line for line in lines if line.startswith("blep"))
    assert blep.split()[:3] == ["blep", "online", "cuda:0"]
    assert "####" in blep
    assert "25%" in blep
    assert next(line for line in lines if line.startswith("mac")).split()[1] == "draining"
    [working] = [line for line in lines if "00000000" in line and "haiku" in line and "2/4" in line]
    assert "20.0" in working
    assert "jobs: 2 running · waiting: 1 interactive, 7 batch · 0.50 jobs/s" in text
    assert [line.split()[:3] for line in lines if line.startswith(("running", "queued"))] == [
        ["running", "job00000", "haiku"],
        ["running", "job00001", "haiku"],
        ["queued", "job00100", "haiku"],
    ]
    assert lines[-1] == "… and 7 more"


def test_a_small_screen_keeps_what_matters_most_of_each_part() -> None:
    lines = drawn(look(pool("blep", devices=3), running=9), 40, 12)

    text = "\n".join(lines)
    assert len(lines) == 12
    assert "MEMORY" in text
    assert "LOAD" not in text
    assert "… and" in text
    assert any(line.startswith("blep") and "25%" in line for line in lines)
    assert any(line.startswith("running") and "job00000" in line for line in lines)


def test_a_large_screen_shows_names_and_whole_ids() -> None:
    lines = drawn(BUSY, 200, 60)

    text = "\n".join(lines)
    assert "NVIDIA GeForce RTX 3090" in text
    assert "00000011-worker" in text
    assert "61 °C" in text
    assert "offline 1m00s" in text
    assert len(lines) == 60


def test_trouble_is_told_above_what_was_there_last() -> None:
    lines = drawn(look(pool("blep")), 80, 24, trouble="away for 3.0 s: \x1b[31mno")

    assert lines[1] == "away for 3.0 s: [31mno"
    assert any(line.startswith("blep") for line in lines)


def test_a_system_without_anything_says_so() -> None:
    assert drawn(look(running=0), 80, 24) == [
        "pools: none · slots: 0/0 busy · 0.0 tokens/s",
        "",
        "jobs: 0 running · waiting: 0 interactive, 0 batch · 0.50 jobs/s",
    ]


def test_a_worker_that_loads_tells_how_far_it_is() -> None:
    loading = worker(1, "starting", 0)
    seen = look(Pool(**{name: getattr(pool("a"), name) for name in Pool.__struct_fields__} | {"workers": [loading]}))

    [row] = view.worker_rows(seen)

    assert (row.cells["STATE"], row.cells["MODEL"], row.cells["TOK/S"]) == ("starting 42 %", "haiku", "")


@pytest.mark.parametrize(
    ("lines", "wanted", "given"),
    [
        (30, (3, 4, 5), [3, 4, 5]),
        (9, (10, 10, 10), [3, 3, 3]),
        (10, (10, 10, 10), [3, 3, 4]),
        (12, (1, 10, 10), [1, 4, 7]),
        (12, (10, 10, 0), [4, 8, 0]),
        (0, (1, 1, 1), [0, 0, 0]),
        (-3, (1, 1, 1), [0, 0, 0]),
    ],
)
def test_lines_are_shared_fairly_and_the_rest_goes_to_the_jobs(
    lines: int, wanted: tuple[int, ...], given: list[int]
) -> None:
    assert view.rows_each(lines, wanted) == given
