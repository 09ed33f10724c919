"""What is wrong with a line of a batch, what jobs it is, and what its result looks like."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.errors import InvalidRequest, ModelNotFound, RemoteError, TimeoutExceeded
from llorch.wire.batches import BatchLine, BatchProblem
from llorch.wire.tasks import MAX_TIMEOUT_MS
from roles.orchestrator.batches.lines import (
    LATE_MS,
    MAX_LINES,
    MOST_LATE,
    WINDOW,
    again,
    asked,
    count_problem,
    failed,
    key,
    problem,
    room,
    share,
    tasks,
    undone,
)
from roles.orchestrator.queue.retry import GiveUp, after_failure
from tests.support.storing import row

CHATS = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def line(**fields: object) -> bytes:
    return json.dumps({"custom_id": "a", "method": "POST", "url": CHATS, "body": BODY, **fields}).encode()


def looked(text: bytes, longest: int = 1000) -> BatchProblem | BatchLine:
    return problem(text, 7, endpoint=CHATS, longest=longest)


def sound(**fields: object) -> BatchLine:
    found = looked(line(**fields))
    assert isinstance(found, BatchLine)
    return found


def test_a_sound_line_is_a_request() -> None:
    assert looked(line()) == BatchLine(custom_id="a", method="POST", url=CHATS, body=BODY)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (b"{", "invalid_json_line", "not JSON"),
        (b"[]", "invalid_json_line", "object"),
        (line(custom_id=""), "invalid_json_line", "custom_id"),
        (line(method="GET"), "invalid_json_line", "method"),
        (line(body=[]), "invalid_json_line", "body"),
        (line(url="/v1/completions"), "mismatched_url", CHATS),
        (line(custom_id="x" * 500), "line_too_long", "300 bytes"),
    ],
)
def test_a_broken_line_is_named(text: bytes, code: str, message: str) -> None:
    found = looked(text, longest=300)

    assert isinstance(found, BatchProblem)
    assert (found.code, found.line) == (code, 7)
    assert message in found.message


def test_the_jobs_of_a_line_wait_behind_what_is_urgent_and_take_turns_by_batch() -> None:
    wanted = asked(sound(body={**BODY, "n": 2, "priority": "interactive"}))

    found = tasks(wanted, "batch_1", room=50, left_ms=10**9)
    mine = tasks(asked(sound(body={**BODY, "session_id": "s"})), "batch_1", room=None, left_ms=-5)

    assert [(t.priority, t.on_disconnect, t.session_id, t.timeout_ms) for t in found] == [
        ("batch", "continue", "batch_1", MAX_TIMEOUT_MS)
    ] * 2
    assert [(t.session_id, t.timeout_ms) for t in mine] == [("s", 1)]


@pytest.mark.parametrize("body", [{**BODY, "stream": True}, {**BODY, "temperature": 9}, {"model": "m"}])
def test_a_body_is_judged_by_itself(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        asked(sound(body=body))


def test_every_job_of_a_batch_has_a_key_of_its_own() -> None:
    found = {key("b", number, answer, again) for number in (1, 11) for answer in (0, 1) for again in (0, 1)}

    assert len(found) == 8


def test_results_have_openais_shape() -> None:
    refused = json.loads(failed("a", ModelNotFound("none"), "c", endpoint="/v1/completions"))
    late = json.loads(undone("b", "expired"))

    assert refused["response"]["status_code"] == 404
    assert refused["response"]["body"]["error"]["code"] == "MODEL_NOT_FOUND"
    assert (refused["custom_id"], refused["error"]) == ("a", None)
    assert (late["custom_id"], late["response"], late["error"]["code"]) == ("b", None, "batch_expired")


@pytest.mark.parametrize(
    ("flying", "waiting", "capacity", "expected"),
    [
        *[(0, 0, -1, WINDOW), (WINDOW, 0, -1, 0), (0, 0, 10_000, WINDOW), (0, 0, 10, 5), (5, 5, 10, 0)],
        *[(0, 10, 10, 0), (0, 0, 1, 1), (3, 0, 0, 0), (0, 12, 10, 0)],
    ],
)
def test_a_batch_takes_half_of_what_the_queue_has_left(flying: int, waiting: int, capacity: int, expected: int) -> None:
    assert room(flying=flying, waiting=waiting, capacity=capacity) == expected


def test_a_file_has_one_request_at_least_and_so_many_at_most() -> None:
    assert [len(count_problem(total)) for total in (0, 1, MAX_LINES, MAX_LINES + 1)] == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("waited_ms", "late", "expected"),
    [
        (LATE_MS, 0, True),
        (LATE_MS - 1, 0, False),
        (MAX_TIMEOUT_MS - 1, MOST_LATE - 1, True),
        (MAX_TIMEOUT_MS - 1, MOST_LATE, False),
        (None, 0, False),
    ],
)
def test_a_request_whose_job_ran_out_of_time_is_asked_again_if_it_had_waited(
    waited_ms: int | None, late: int, expected: bool
) -> None:
    job = row(submitted_ms=1_000, dispatched_ms=None if waited_ms is None else 1_000 + waited_ms)

    assert again(TimeoutExceeded("too long"), job, late=late) is expected
    assert again(TimeoutExceeded("too long"), None, late=late) is False


def test_a_request_whose_job_never_ran_is_asked_again_as_often_as_that_happens() -> None:
    assert again(TimeoutExceeded("not started", code="QUEUE_TIMEOUT"), row(), late=MOST_LATE) is True


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        ("/v1/chat/completions", "messages"),
        ("/v1/completions", "prompt"),
        ("/v1/responses", "input"),
        ("/v1/embeddings", "input"),
    ],
)
def test_a_prompt_that_is_too_long_is_told_by_its_field(endpoint: str, field: str) -> None:
    error = InvalidRequest("too long", details={"prompt_tokens": 9, "context_length": 8})

    told = json.loads(failed("a", error, "c", endpoint=endpoint))["response"]["body"]["error"]

    assert (told["param"], told["code"]) == (field, "context_length_exceeded")
    assert f"your {field} resulted in 9 tokens" in told["message"]


@pytest.mark.parametrize(("deadline_ms", "attempt", "expected"), [(1_400, 1, True), (10**9, 5, False)])
def test_a_request_whose_job_had_no_time_left_to_be_tried_again_is_asked_again(
    deadline_ms: int, attempt: int, expected: bool
) -> None:
    lost = RemoteError("the worker is gone", code="WORKER_LOST", status=503, retriable=True)
    outcome = after_failure(lost, attempt=attempt, now_ms=1_000, deadline_ms=deadline_ms, chance=0.0)
    assert isinstance(outcome, GiveUp)
    told = RemoteError(
        outcome.message, code=outcome.code, status=503, retriable=outcome.retriable, details=outcome.details(None)
    )

    assert again(told, row(dispatched_ms=1_001), late=0) is expected
    assert again(told, row(dispatched_ms=1_001), late=MOST_LATE) is False


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ((0, 0, 0, 1, 0, -1), WINDOW),
        ((0, 0, 0, 2, 0, -1), WINDOW // 2),
        ((WINDOW, 0, WINDOW, 2, 0, -1), 0),  # the other has a turn
        ((0, 0, WINDOW, 2, WINDOW, 10_000), 1),  # a first one goes beyond the window
        ((1, 0, WINDOW + 1, 2, WINDOW, 10_000), 0),
        ((1, 0, WINDOW - 1, 2, WINDOW, 10_000), 1),
        ((0, 0, WINDOW, 2, WINDOW, 2 * WINDOW), 0),  # not beyond the queue
        ((100, 50, 150, 1, 0, -1), WINDOW - 150),  # what has begun all it has is no reason to leave room
        ((0, 0, 4, 2, 4, 10), 1),
        ((4, 0, 4, 2, 4, 10), 0),
    ],
)
def test_batches_share_what_may_be_jobs_at_the_same_time(facts: tuple[int, ...], expected: int) -> None:
    own, ended, flying, hungry, waiting, capacity = facts

    found = share(own=own, ended=ended, flying=flying, hungry=hungry, waiting=waiting, capacity=capacity)

    assert found == expected


@settings(max_examples=100)
@given(
    st.lists(st.integers(1, 2 * WINDOW), min_size=1, max_size=6),
    st.sampled_from([-1, 1, 10, 300, 10_000]),
    st.lists(st.integers(0, 10**6), max_size=30),
)
def test_no_batch_is_left_out_and_no_room_is_left_unused(left: list[int], capacity: int, landing: list[int]) -> None:
    flying = [0] * len(left)

    for lands in [*landing, 0]:
        hungry = [number for number, count in enumerate(left) if count]
        for number in hungry:
            free = room(flying=sum(flying), waiting=sum(flying), capacity=capacity)
            more = share(
                own=flying[number],
                ended=sum(flying[other] for other in range(len(left)) if other not in hungry),
                flying=sum(flying),
                hungry=len(hungry),
                waiting=sum(flying),
                capacity=capacity,
            )
            assert len(hungry) > 1 or more == free or (free, more, flying[number]) == (0, 1, 0)
            begun = min(more, left[number])
            flying[number] += begun
            left[number] -= begun

        assert sum(flying) <= WINDOW + len(left)
        assert capacity < 0 or sum(flying) <= capacity
        if capacity in {-1, 10_000}:
            assert all(flying[number] for number in hungry)
        busy = [number for number, count in enumerate(flying) if count]
        flying[busy[lands % len(busy)]] -= 1
        if not any(left):
            break
