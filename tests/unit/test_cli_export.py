"""Records as JSON lines and CSV, and which jobs are wanted."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
from msgspec import structs

from llorch.cli.export import COLUMNS, NotWritten, Record, Wanted, csv_lines, destination, json_lines, matches
from llorch.wire.tasks import JobError, Task, Timings

TASK = Task(
    job_id="a",
    status="failed",
    model="haiku",
    model_ref="file:/builtin/haiku.gguf",
    priority="batch",
    seed=2**64 - 1,
    max_tokens=9,
    timings=Timings(submitted_ms=1_000, deadline_ms=2_000, finished_ms=1_500),
    attempts=5,
    on_disconnect="continue",
    correlation_id="c",
    events_url="/v2/tasks/a/events",
    prompt_sha256="ff",
    error=JobError("STALLED", "no token, for long", retriable=True),
)
TEXT = 'one\ntwo, "three"'


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), True),
        (Wanted(statuses=["failed", "completed"]), True),
        (Wanted(statuses=["completed"]), False),
        (Wanted(since_ms=1_000, until_ms=1_001), True),
        (Wanted(since_ms=1_001), False),
        (Wanted(until_ms=1_000), False),
    ],
)
def test_a_job_is_wanted_by_its_state_and_the_time_it_was_submitted(wanted: Wanted, expected: bool) -> None:
    assert matches(TASK, wanted) is expected


def test_json_lines_are_the_api_s_records_a_line_each() -> None:
    first, second = json_lines(
        [Record(TASK), Record(structs.replace(TASK, job_id="b"))], with_output=False
    ).splitlines()

    assert json.loads(first)["error"] == {"code": "STALLED", "message": "no token, for long", "retriable": True}
    assert json.loads(first)["seed"] == 2**64 - 1
    assert json.loads(second)["job_id"] == "b"
    assert "output" not in json.loads(first)


def test_a_text_that_is_gone_is_null() -> None:
    lines = json_lines([Record(TASK, TEXT), Record(TASK)], with_output=True).splitlines()

    assert [json.loads(line)["output"] for line in lines] == [TEXT, None]


def test_csv_is_flat_and_read_back_as_it_was() -> None:
    text = csv_lines([], with_output=True, header=True) + csv_lines(
        [Record(TASK, TEXT)], with_output=True, header=False
    )

    [row] = csv.DictReader(io.StringIO(text, newline=""))
    assert set(row) == {*COLUMNS, "output"}
    assert (row["job_id"], row["output"], row["session_id"]) == ("a", TEXT, "")
    assert (row["submitted_ms"], row["finished_ms"], row["started_ms"]) == ("1000", "1500", "")
    assert (row["error_code"], row["error_retriable"]) == ("STALLED", "True")


def test_a_link_stays_a_link_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("before")
    link.symlink_to(real)

    with destination(str(link), overwrite=True) as take:
        take("after")

    assert (link.is_symlink(), real.read_text()) == (True, "after")


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    with destination(str(pipe), overwrite=True) as take:
        take("all of it")
    read = os.read(reader, 100)
    os.close(reader)

    assert (pipe.is_fifo(), read) == (True, b"all of it")


def test_a_name_that_no_file_can_have_is_told(tmp_path: Path) -> None:
    name = str(tmp_path / ("x" * 300))
    with pytest.raises(NotWritten, match="cannot be written: File name too long"), destination(name, overwrite=False):
        pass
