"""The auditor finds each kind of broken promise, and nothing where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.auditor import Expected, Job, OnDisk, Reference, audit, reference_of
from tests.support.transcripts import Seen, Transcript

WORDS = ["a ", "b ", "c"]
TOKENS = [Seen("token", (n + 1, 0), json.dumps({"i": n, "t": word}).encode()) for n, word in enumerate(WORDS)]
STARTED = Seen("started", (0, 5), b'{"attempt":1}')
END = Seen("end", (3, 9), b'{"tokens_in":2,"tokens_out":3,"stop_reason":"eos"}')
OUTPUT = b"".join(b"event: token\nid: %d.0\ndata: %b\n\n" % (event.id[0], event.data) for event in TOKENS)
ROW: dict[str, Any] = {
    "state": "completed",
    "request": None,
    "finished_ms": 9,
    "deadline_ms": 900_000,
    "final_event": 9,
    "pieces": 3,
    "tokens_in": 2,
    "tokens_out": 3,
    "stop_reason": "eos",
    "error_code": None,
    "error_message": None,
    "error_retriable": None,
}
DISK = OnDisk(row=ROW, attempts=[{"ended_ms": 9, "outcome": "completed"}], output=[(0, 3, OUTPUT)])
EXPECTED = Expected(max_tokens=3, reference=Reference("a b c"))


def job(*changes: Callable[[Transcript], None]) -> Job:
    """Return a job with two readers; *changes* are made to what the second one saw."""
    first, second = (Transcript("j", name, [STARTED, *TOKENS, END]) for name in ("first", "second"))
    for change in changes:
        change(second)
    return Job("j", EXPECTED, [first, second])


def row(**changes: object) -> OnDisk:
    """Return the job on disk with another row."""
    return replace(DISK, row=ROW | changes)


def failed(code: str, *, outcomes: list[str], retriable: bool = True, deadline_ms: int = 900_000) -> OnDisk:
    """Return a job on disk that ended with an error."""
    changed = row(
        state="failed",
        error_code=code,
        error_message="m",
        error_retriable=retriable,
        stop_reason=None,
        deadline_ms=deadline_ms,
    )
    return replace(changed, attempts=[{"ended_ms": 1, "outcome": outcome} for outcome in outcomes])


def test_nothing_is_found_where_every_promise_was_kept() -> None:
    assert audit(job(), DISK) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.events.pop(2), "token 1 is (3, 0)"),
        (lambda t: t.events.insert(2, TOKENS[0]), "came behind token (1, 0)"),
        (lambda t: t.events.reverse(), "came behind"),
        (lambda t: t.events.pop(), "saw 0 terminal events"),
        (lambda t: t.events.insert(1, END), "saw 2 terminal events"),
        (lambda t: t.events.__setitem__(0, STARTED._replace(data=b'{"attempt":2}')), "to another reader"),
        (lambda t: t.events.__setitem__(-1, END._replace(id=(3, 8))), "different ends"),
        (lambda t: t.problems.append("500"), "second: 500"),
    ],
)
def test_a_reader_who_saw_something_else_is_found(change: Callable[[Transcript], None], said: str) -> None:
    assert any(said in problem for problem in audit(job(change), DISK))


@pytest.mark.parametrize(
    ("disk", "said"),
    [
        (None, "is not in the database"),
        (row(state="running"), "still running"),
        (row(request=b"x"), "prompt is still"),
        (row(final_event=None), "has no end"),
        (row(tokens_out=2), "were told 3, its row says 2"),
        (row(final_event=8), "its row says (3, 8)"),
        (row(tokens_out=4), "3 were asked for"),
        (replace(DISK, attempts=[{"ended_ms": None, "outcome": None}]), "an attempt has no end"),
        (replace(DISK, attempts=[{"ended_ms": 9, "outcome": "completed"}] * 2), "more often"),
        (replace(DISK, output=[]), "ends at 0"),
        (replace(DISK, output=[(1, 3, OUTPUT)]), "where 0 comes next"),
        (replace(DISK, output=[(0, 3, OUTPUT.replace(b"b", b"x"))]), "not what readers saw"),
        (failed("WORKER_LOST", outcomes=["WORKER_LOST"] * 4), "it ended with WORKER_LOST"),
        (failed("CONFLICT", outcomes=["CONFLICT"] * 5, retriable=False), "it ended with CONFLICT"),
    ],
)
def test_a_database_that_says_something_else_is_found(disk: OnDisk | None, said: str) -> None:
    assert any(said in problem for problem in audit(job(), disk))


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (replace(EXPECTED, reference=Reference("a b d")), "undisturbed it is 'a b d'"),
        (replace(EXPECTED, stop=["b c"]), "holds a stop sequence"),
    ],
)
def test_a_wrong_text_is_found(expected: Expected, said: str) -> None:
    wrong = job()
    wrong.expected = expected

    assert any(said in problem for problem in audit(wrong, DISK))


@pytest.mark.parametrize(
    ("text", "is_whole", "is_right"),
    [
        ("abcdefgh", True, True),
        ("abcdef", True, False),
        ("abcdef", False, True),
        ("abcXefgh", True, True),
        ("abcdX", True, True),
        ("abcd", True, True),
        ("abXdefgh", True, False),
        ("abcdeXgh", True, False),
        ("abcdefghabcdefgh", True, False),
    ],
)
def test_a_text_may_differ_only_where_rounding_decides(text: str, is_whole: bool, is_right: bool) -> None:
    assert Reference("abcdefgh", [range(3, 5)]).allows(text, is_whole=is_whole) is is_right


@pytest.mark.parametrize(("difference", "unsure"), [(0.02, [range(3, 7)]), (0.04, [])])
def test_a_reference_knows_where_it_was_unsure(difference: float, unsure: list[range]) -> None:
    pairs = [(-1.0, -3.0), (-1.0, -1.0 - difference), (-1.0, -2.0)]
    events = [
        Seen("token", (n, 0), json.dumps({"t": text, "logprobs": [_place(pair)]}).encode())
        for n, (text, pair) in enumerate(zip(["abc", "de", "f"], pairs, strict=True))
    ]

    assert reference_of(events, held=1) == Reference("abcdef", unsure)


def _place(pair: tuple[float, float]) -> dict[str, object]:
    return {"top_logprobs": [{"logprob": logprob} for logprob in pair]}


def test_a_cancellation_that_was_answered_otherwise_is_found() -> None:
    answered = job()
    answered.cancel_answers.append("cancelled")

    assert audit(answered, DISK) == ["job j: a cancellation was answered with cancelled, the row says completed"]


def job_that_failed(*, may_be_late: bool = False) -> Job:
    """Return a job whose readers were told of its failure."""
    end = Seen("error", (3, 9), b'{"code":"WORKER_LOST","message":"m","retriable":true}')
    tried = job()
    tried.expected = replace(EXPECTED, may_be_late=may_be_late)
    for transcript in tried.transcripts:
        transcript.events[-1] = end
    return tried


def test_a_job_may_fail_when_it_was_tried_often_enough() -> None:
    assert audit(job_that_failed(), failed("WORKER_LOST", outcomes=["WORKER_LOST"] * 5)) == []


@pytest.mark.parametrize(
    ("outcomes", "deadline_ms", "is_right"),
    [
        (["WORKER_LOST"], 1_009, True),
        (["WORKER_LOST"], 1_010, False),
        (["WORKER_LOST"] * 2, 2_009, True),
        (["WORKER_LOST", "HANDED_BACK"], 1_010, False),
        (["HANDED_BACK"], 1, False),
    ],
)
def test_a_job_may_fail_when_no_time_is_left_to_try_it_again(
    outcomes: list[str], deadline_ms: int, is_right: bool
) -> None:
    disk = failed("WORKER_LOST", outcomes=outcomes, deadline_ms=deadline_ms)

    assert (audit(job_that_failed(may_be_late=True), disk) == []) is is_right
    assert audit(job_that_failed(), disk) != []
