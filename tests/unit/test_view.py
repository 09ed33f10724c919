"""What people are shown of a job: everything that is known, nothing that is not, and why it waits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import to_builtins

from llorch.job import State
from llorch.wire.codec import encode
from llorch.wire.tasks import Attempt, Breakdown, Explanation, JobError, Task, Timings
from roles.orchestrator.scheduler.decisions import Dispatch, StartWorker, Wait
from roles.orchestrator.scheduler.progress import Loading
from roles.orchestrator.state.rows import AttemptRow, JobRow
from roles.orchestrator.view import events_url, explain, task_of
from tests.support.storing import row

QUEUED = row(
    seq=7,
    priority="batch",
    owner="secret-owner",
    on_disconnect="cancel",
    seed=2**64 - 1,
    idempotency_key="secret-key",
    request_sha256="secret-hash",
)
COMPLETED = replace(
    QUEUED,
    state=State.COMPLETED,
    session_id="s",
    dispatched_ms=1_100,
    started_ms=1_200,
    first_token_ms=1_300,
    finished_ms=1_400,
    attempt=1,
    worker_id="w",
    pool_id="p",
    engine="llamacpp 1",
    tokens_in=0,
    tokens_out=5,
    stop_reason="eos",
    output_sha256="bb",
)
FAILED = replace(
    QUEUED, state=State.FAILED, error_code="WORKER_LOST", error_message="it died", error_retriable=True, attempt=2
)
WAIT = Wait(QUEUED.model_ref, "pool", "no pool is online")
LOADING = [Loading("w1", "p1", "m", "cpu", 41.6, known=True), Loading("", "p2", "m")]


def test_a_waiting_job_shows_its_place_and_nothing_that_has_not_happened() -> None:
    found = task_of(QUEUED, position=0, attempts=None)

    assert found == Task(
        job_id="j",
        status="queued",
        model="haiku",
        model_ref="file:/builtin/haiku.gguf",
        priority="batch",
        seed=2**64 - 1,
        max_tokens=5,
        timings=Timings(submitted_ms=1_000, deadline_ms=301_000),
        attempts=0,
        on_disconnect="cancel",
        correlation_id="c-1",
        events_url="/v2/tasks/j/events",
        prompt_sha256="aa",
        queue_position=0,
    )


def test_a_completed_job_shows_everything_also_what_is_zero() -> None:
    log = [AttemptRow(number=1, worker_id="w", pool_id="p", dispatched_ms=1_100, ended_ms=None, outcome=None)]

    found = task_of(COMPLETED, position=None, attempts=log)

    assert found == Task(
        job_id="j",
        status="completed",
        model="haiku",
        model_ref="file:/builtin/haiku.gguf",
        priority="batch",
        seed=2**64 - 1,
        max_tokens=5,
        timings=Timings(
            submitted_ms=1_000,
            deadline_ms=301_000,
            dispatched_ms=1_100,
            started_ms=1_200,
            first_token_ms=1_300,
            finished_ms=1_400,
            breakdown=Breakdown(decide_ms=100, prefill_ms=200),
        ),
        attempts=1,
        on_disconnect="cancel",
        correlation_id="c-1",
        events_url=events_url("j"),
        prompt_sha256="aa",
        session_id="s",
        worker_id="w",
        pool_id="p",
        engine="llamacpp 1",
        tokens_in=0,
        tokens_out=5,
        stop_reason="eos",
        output_sha256="bb",
        attempt_log=[Attempt(number=1, worker_id="w", pool_id="p", dispatched_ms=1_100)],
    )


def test_an_attempt_that_is_over_shows_when_and_how_it_ended() -> None:
    log = [AttemptRow(number=2, worker_id="w", pool_id="p", dispatched_ms=1, ended_ms=0, outcome="WORKER_LOST")]

    found = task_of(FAILED, position=None, attempts=log).attempt_log

    assert found == [Attempt(number=2, worker_id="w", pool_id="p", dispatched_ms=1, ended_ms=0, outcome="WORKER_LOST")]


def test_a_failed_job_shows_its_error() -> None:
    found = task_of(FAILED, position=None, attempts=[])

    assert found.error == JobError("WORKER_LOST", "it died", retriable=True)
    assert found.attempt_log == []


def test_what_is_not_for_people_is_not_shown() -> None:
    shown = encode(task_of(COMPLETED, position=None, attempts=None))

    assert b"secret" not in shown
    assert b"null" not in shown


@pytest.mark.parametrize(
    ("row", "position", "wait", "loading", "reason", "text"),
    [
        (COMPLETED, None, None, [], "completed", "It ran on worker w of pool p and ended with eos."),
        (FAILED, None, None, [], "worker_lost", "It ended with WORKER_LOST: it died."),
        (
            replace(FAILED, state=State.CANCELLED, error_code="CANCELLED", error_message="asked for"),
            None,
            None,
            [],
            "cancelled",
            "It ended with CANCELLED: asked for.",
        ),
        (
            replace(COMPLETED, state=State.CANCELLING),
            None,
            None,
            [],
            "cancelling",
            "It is being cancelled; worker w has yet to let go of it.",
        ),
        (
            replace(COMPLETED, state=State.DISPATCHED),
            None,
            None,
            [],
            "running",
            "It runs on worker w of pool p, attempt 1.",
        ),
        (
            replace(COMPLETED, state=State.RUNNING),
            None,
            None,
            [],
            "running",
            "It runs on worker w of pool p, attempt 1.",
        ),
        (QUEUED, 0, None, [], "queued", "It is about to be placed."),
        (QUEUED, 2, None, [], "queued", "Jobs served before it: 2. It is about to be placed."),
        (QUEUED, 0, WAIT, [], "pool", "It waits because no pool is online."),
        (QUEUED, 3, WAIT, [], "pool", "Jobs served before it: 3. It waits because no pool is online."),
        (QUEUED, 0, WAIT, LOADING, "loading", "Pool p1 is loading its model: 42 %."),
        (
            replace(QUEUED, attempt=1, not_before_ms=11_500),
            0,
            WAIT,
            LOADING,
            "retry",
            "Attempt 1 failed; it is tried again in 1.5 s.",
        ),
        (replace(QUEUED, attempt=1, not_before_ms=10_000), 0, WAIT, [], "pool", "It waits because no pool is online."),
    ],
)
def test_a_job_is_explained_in_words(
    row: JobRow, position: int | None, wait: Wait | None, loading: list[Loading], reason: str, text: str
) -> None:
    found = explain(row, position=position, last=wait, dispatch=None, loading=loading, now_ms=10_000)

    assert (found.reason, found.text) == (reason, text)


def test_a_job_is_explained_as_data_too() -> None:
    found = explain(QUEUED, position=4, last=WAIT, dispatch=None, loading=[], now_ms=0)

    assert found == Explanation(
        job_id="j",
        status="queued",
        reason="pool",
        text="Jobs served before it: 4. It waits because no pool is online.",
        data={
            "model_ref": "file:/builtin/haiku.gguf",
            "attempts": 0,
            "position": 4,
            "pool_id": None,
            "decision": {"kind": "wait", "model_ref": QUEUED.model_ref, "reason": "pool", "text": "no pool is online"},
        },
    )


def test_a_job_that_has_gone_to_a_worker_tells_why_there() -> None:
    dispatch = Dispatch("j", "w", "p", 1, 4, 3)

    found = explain(COMPLETED, position=None, last=WAIT, dispatch=dispatch, loading=[], now_ms=0)

    assert found.text == (
        "It ran on worker w of pool p and ended with eos. It went there because worker w of pool p was the least "
        "loaded of 3 with a free slot (1 of 4 taken)."
    )
    assert found.data["decision"]["kind"] == "dispatch"


def test_a_decision_about_another_attempt_explains_nothing() -> None:
    dispatch = Dispatch("j", "another worker", "p", 1, 4, 1)

    found = explain(COMPLETED, position=None, last=None, dispatch=dispatch, loading=[], now_ms=0)

    assert found.text == "It ran on worker w of pool p and ended with eos."


def test_a_job_for_which_a_worker_was_asked_for_tells_where_and_why() -> None:
    start = StartWorker("m", "p", "cuda0", 2**30, 2**31, has_file=True)

    found = explain(QUEUED, position=0, last=start, dispatch=None, loading=[], now_ms=0)

    assert found.text == (
        "It is about to be placed: a worker is started on cuda0 of pool p: it has the file, 1.0 GiB needed, "
        "2.0 GiB available."
    )


def test_the_attempt_that_gave_the_first_token_tells_what_it_was_spent_on() -> None:
    attempts = [
        AttemptRow(number=1, worker_id="v", pool_id="p", dispatched_ms=1_005, ended_ms=1_008, outcome="WORKER_LOST"),
        replace(
            AttemptRow(number=2, worker_id="w", pool_id="p", dispatched_ms=1_100, ended_ms=1_350, outcome="x"),
            asked_ms=1_010,
            fetched_ms=1_040,
            loading_ms=1_060,
            ready_ms=1_090,
        ),
        AttemptRow(number=3, worker_id="x", pool_id="p", dispatched_ms=1_360, ended_ms=None, outcome=None),
    ]

    shown = task_of(COMPLETED, position=None, attempts=attempts).timings.breakdown
    told = explain(COMPLETED, attempts=attempts, position=None, last=None, dispatch=None, loading=[], now_ms=0)

    assert shown == Breakdown(decide_ms=10, fetch_ms=30, spawn_ms=20, load_ms=30, dispatch_ms=10, prefill_ms=200)
    assert told.data["breakdown"] == to_builtins(shown)
    assert told.text == (
        "It ran on worker w of pool p and ended with eos. Its first token came after 300 ms: decide 10 ms, "
        "fetch 30 ms, spawn 20 ms, load 30 ms, dispatch 10 ms, prefill 200 ms."
    )
