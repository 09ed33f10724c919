"""What `jobs watch` shows of an overview: columns for any width, speeds, changes."""

from __future__ import annotations

import pytest
from msgspec import structs

from llorch.cli import watch_view as view
from llorch.wire.operations import LiveJob, Overview
from llorch.wire.tasks import Priority

RUNNING = LiveJob(
    job_id="13d12f5c-ad9f-4ee8-99e7-7a9b0391fdf7",
    status="running",
    model="hf:org/repo@0123456789012345678901234567890123456789::file=model-q4.gguf",
    priority="interactive",
    submitted_ms=1_000,
    attempts=1,
    tokens_out=10,
    max_tokens=100,
    worker_id="86ed723c-d3c0-4b72-9d61-8a7d4c3b2a10",
    pool_id="attic",
)
WAITING = LiveJob(
    job_id="waiting",
    status="queued",
    model="haiku",
    priority="batch",
    submitted_ms=2_000,
    attempts=0,
    tokens_out=0,
    max_tokens=9,
    queue_position=4,
)
ENDED = structs.replace(RUNNING, job_id="ended", status="failed", finished_ms=4_000, error_code="STALLED")


def overview(*jobs: LiveJob, time_ms: int = 10_000, waiting: int = 0, batch: int = 0) -> Overview:
    counts: dict[Priority, int] = {"interactive": waiting, "batch": batch}
    running = sum(job.status == "running" for job in jobs)
    return Overview(time_ms=time_ms, waiting=counts, running=running, finished_per_s=0.25, jobs=list(jobs))


def names(width: int) -> list[str]:
    return [column.name for column, _ in view.layout(width)]


@pytest.mark.parametrize("width", range(10, 300))
def test_the_table_is_never_wider_than_the_terminal(width: int) -> None:
    shown = view.layout(width)

    assert sum(cells for _, cells in shown) + view.column_gap(width) * (len(shown) - 1) <= width
    assert all(column.width <= cells for column, cells in shown)


def test_a_narrow_terminal_has_the_dearest_columns_and_a_wide_one_has_all() -> None:
    assert names(40) == ["STATE", "ID", "MODEL", "TOKENS"]
    assert names(80) == names(200) == [column.name for column in view.COLUMNS]


@pytest.mark.parametrize(("width", "cells"), [(80, 8), (200, 36)])
def test_an_id_is_shown_whole_or_by_its_first_group(width: int, cells: int) -> None:
    assert next(found for column, found in view.layout(width) if column.name == "ID") == cells


def test_a_speed_is_known_from_the_second_look_on() -> None:
    rates = view.Rates()

    first = rates.look(overview(RUNNING, WAITING, time_ms=1_000))
    second = rates.look(overview(structs.replace(RUNNING, tokens_out=40), WAITING, time_ms=3_000))

    assert dict(first) == {}
    assert dict(second) == {RUNNING.job_id: 15.0}


def test_a_speed_is_that_of_the_last_seconds() -> None:
    rates = view.Rates()
    for second in range(30):
        tokens = second * 10 if second <= 15 else 150
        found = rates.look(overview(structs.replace(RUNNING, tokens_out=tokens), time_ms=second * 1_000))

    assert found[RUNNING.job_id] == 0.0


def test_a_row_says_where_a_job_is() -> None:
    cells = view.cells(RUNNING, {RUNNING.job_id: 12.34}, now_ms=62_000)

    assert cells == {
        "STATE": "running",
        "ID": RUNNING.job_id,
        "MODEL": "model-q4.gguf",
        "PRIO": "interactive",
        "POS": "",
        "TOKENS": "10",
        "TOK/S": "12.3",
        "AGE": "1m01s",
        "WORKER": "attic/86ed723c",
    }


def test_a_job_that_has_ended_gets_no_older() -> None:
    assert view.cells(ENDED, {}, now_ms=1_000_000)["AGE"] == "3s"


def test_the_headline_counts_what_is_not_shown_too() -> None:
    found = overview(RUNNING, waiting=1_200, batch=34)

    assert view.headline(found, {"a": 10.0, "b": 2.5}) == (
        "1 running · 1,234 waiting (34 batch) · 12.5 tokens/s · 0.25 jobs/s"
    )
    assert view.hidden(found, [RUNNING]) == 1_234


def test_jobs_that_ended_give_way_to_those_that_run_and_wait() -> None:
    jobs = [RUNNING, WAITING, ENDED]

    assert view.room(jobs, 2) == [RUNNING, WAITING]
    assert view.room(jobs, 3) == jobs
    assert view.room(jobs, 0) == []


def test_a_change_is_another_state_attempt_or_worker_and_nothing_else() -> None:
    known = {RUNNING.job_id: RUNNING, WAITING.job_id: WAITING}
    moved = structs.replace(WAITING, queue_position=3)
    written = structs.replace(RUNNING, tokens_out=99)
    retried = structs.replace(RUNNING, attempts=2)

    assert view.changes(known, overview(written, moved)) == []
    assert view.changes(known, overview(retried, moved, ENDED)) == [retried, ENDED]


@pytest.mark.parametrize(
    ("job", "line"),
    [
        (RUNNING, f"{RUNNING.job_id} running model-q4.gguf worker {RUNNING.worker_id} of pool attic"),
        (WAITING, "waiting queued haiku position 4 age 8.0 s"),
        (ENDED, "ended failed model-q4.gguf 10 tokens in 3.0 s STALLED"),
    ],
)
def test_a_change_is_told_on_one_line(job: LiveJob, line: str) -> None:
    assert view.change_line(job, now_ms=10_000) == line


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("qwen", "qwen"),
        ("file:/srv/models/mine", "mine"),
        ("hf:org/repo@main::file=big/m.gguf", "m.gguf"),
        ("hf:org/repo@0123::file=config.json", "repo"),
        ("hf:org/repo", "repo"),
        ("server:gpu/Qwen/Qwen3", "Qwen/Qwen3"),
    ],
)
def test_a_model_is_called_what_tells_it_from_others(name: str, short: str) -> None:
    assert view.short_model(name) == short
