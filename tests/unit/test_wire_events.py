"""Event ids: their order is the order of the stream, and only well-formed ones are read."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from llorch.errors import InvalidRequest
from llorch.wire.events import MAX_COUNT, START, EventId, counts_of, parse_event_id

numbers = st.integers(min_value=0, max_value=10**18 - 1)
ids = st.builds(EventId, numbers, numbers)


@given(ids)
def test_an_id_reads_back_equal(event_id: EventId) -> None:
    assert parse_event_id(str(event_id)) == event_id


@given(ids, ids)
def test_ids_are_ordered_by_tokens_and_then_by_serial(one: EventId, other: EventId) -> None:
    assert (one < other) == (one.tokens < other.tokens or (one.tokens == other.tokens and one.serial < other.serial))


def test_ids_of_a_stream_are_in_stream_order() -> None:
    stream = [START, EventId(0, 0), EventId(0, 7), EventId(1, 0), EventId(1, 9), EventId(2, 0), EventId(10, 0)]

    assert all(before < then for before, then in pairwise(stream))
    assert [str(event_id) for event_id in stream[1:]] == ["0.0", "0.7", "1.0", "1.9", "2.0", "10.0"]


@pytest.mark.parametrize(
    ("text", "event_id"),
    [
        ("0", EventId(0, 0)),
        ("12", EventId(12, 0)),
        ("12.0", EventId(12, 0)),
        ("12.34", EventId(12, 34)),
        ("007.01", EventId(7, 1)),
        ("9" * 18 + "." + "9" * 18, EventId(10**18 - 1, 10**18 - 1)),
    ],
)
def test_a_well_formed_id_is_read(text: str, event_id: EventId) -> None:
    assert parse_event_id(text) == event_id


@pytest.mark.parametrize(
    "text",
    ["", ".", "1.", ".1", "-1", "+1", "0.-1", "1.2.3", " 1", "1 ", "1\n", "1e3", "0x1", "1_0", "²", "١", "a", "9" * 19],
)
def test_anything_else_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_event_id(text)

    problem = "expected an event id of this job, such as 12.0, or a number of tokens"
    assert raised.value.message == f"the request is not valid: after: {problem}"
    assert raised.value.details == {"fields": [{"field": "after", "problem": problem}]}


def test_a_job_keeps_the_counts_of_its_error_and_nothing_else() -> None:
    details = {"prompt_tokens": 5, "exact": False, "fields": [{"field": "prompt"}], "odd": -1, "huge": MAX_COUNT + 1}

    assert counts_of(details) == {"prompt_tokens": 5}
    assert (counts_of({"near": ["haiku"]}), counts_of(None)) == (UNSET, UNSET)
