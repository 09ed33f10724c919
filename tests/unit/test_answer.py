"""Reading a job's event stream for its text."""

from __future__ import annotations

import pytest

from llorch.errors import LlorchError
from llorch.sse import KEEPALIVE, Splitter, encode_event
from llorch.wire.codec import encode
from llorch.wire.events import End, Failed, Queued, Token
from roles.orchestrator.dialects.answer import Step, read
from roles.orchestrator.job_events import token

ENDED = End(tokens_in=7, tokens_out=3, stop_reason="eos", queue_ms=1, first_token_ms=2, decode_time_ms=3)


def steps(*blocks: bytes) -> list[Step]:
    splitter = Splitter()
    return [step for block in blocks for step in read(splitter, block)]


def test_text_and_end_are_told_and_the_rest_is_a_sign_of_life() -> None:
    queued = encode_event("queued", "0.1", encode(Queued("j", 3, "c")))
    end = encode_event("end", "2.9", encode(ENDED))

    assert steps(queued, KEEPALIVE, token(Token(0, "a")) + token(Token(1, "b")), end) == [
        None,
        None,
        Token(0, "a"),
        Token(1, "b"),
        ENDED,
    ]


@pytest.mark.parametrize(
    ("code", "retriable", "status"),
    [("TIMEOUT", False, 504), ("WORKER_LOST", True, 503), ("MODEL_NOT_FOUND", False, 404), ("ODD", False, 502)],
)
def test_a_job_that_failed_is_an_error_with_a_status(code: str, status: int, *, retriable: bool) -> None:
    failed = encode_event("error", "0.9", encode(Failed(code=code, message="why", retriable=retriable)))

    with pytest.raises(LlorchError) as raised:
        steps(failed)

    assert (raised.value.code, raised.value.message, raised.value.status) == (code, "why", status)
    assert raised.value.details is None


def test_a_job_that_failed_keeps_what_its_error_has_for_programs() -> None:
    counts = {"prompt_tokens": 5, "context_length": 4}
    failed = Failed(code="INVALID_REQUEST", message="why", retriable=False, details=counts)

    with pytest.raises(LlorchError) as raised:
        steps(encode_event("error", "0.9", encode(failed)))

    assert (raised.value.status, raised.value.details) == (400, counts)
