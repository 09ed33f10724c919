"""Events of a job as they go to readers."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.sse import encode_event, parse
from llorch.wire.codec import encode
from llorch.wire.events import End, Failed, Token
from roles.orchestrator.job_events import terminal, token
from tests.support.storing import row


@given(st.integers(0, 2**31), st.text())
def test_a_token_event_is_what_the_general_encoder_makes_of_it(index: int, text: str) -> None:
    assert token(Token(index, text)) == encode_event("token", f"{index + 1}.0", encode(Token(index, text)))


def test_a_completed_job_ends_with_its_figures() -> None:
    ended = row(
        submitted_ms=100, started_ms=150, first_token_ms=180, finished_ms=300, tokens_in=3, tokens_out=5, pieces=4,
        decode_ms=90, stop_reason="eos", final_event=300,
    )  # fmt: skip

    event_id, encoded = terminal(ended)

    [event] = parse(encoded)
    assert (event.kind, event.id, str(event_id)) == ("end", "4.300", "4.300")
    assert msgspec.json.decode(event.data, type=End) == End(
        tokens_in=3, tokens_out=5, stop_reason="eos", queue_ms=50, first_token_ms=80, decode_time_ms=90
    )


@pytest.mark.parametrize(("code", "expected"), [("WORKER_LOST", "WORKER_LOST"), (None, "INTERNAL")])
def test_any_other_job_ends_with_an_error(code: str | None, expected: str) -> None:
    ended = row(finished_ms=300, final_event=300, error_code=code, error_message="why", error_retriable=True)

    [event] = parse(terminal(ended)[1])

    assert event.kind == "error"
    assert msgspec.json.decode(event.data, type=Failed) == Failed(code=expected, message="why", retriable=True)


def test_an_error_tells_what_it_has_for_programs() -> None:
    ended = row(
        final_event=300, error_code="INVALID_REQUEST", error_message="why", error_details='{"prompt_tokens": 5}'
    )

    [event] = parse(terminal(ended)[1])

    assert msgspec.json.decode(event.data) == {
        "code": "INVALID_REQUEST",
        "message": "why",
        "retriable": False,
        "details": {"prompt_tokens": 5},
    }
