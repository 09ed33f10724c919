"""Records as JSON lines and CSV, and which jobs are wanted."""

from __future__ import annotations

import csv
import io
import json

import pytest
from msgspec import structs

from llorch.cli.export import COLUMNS, Record, Wanted, csv_lines, json_lines, matches
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
