"""Errors cross HTTP without loss, and an answer that is not ours still becomes an error."""

from __future__ import annotations

import inspect

import pytest
from msgspec import UNSET

from llorch import errors
from llorch.errors import LlorchError, RemoteError
from llorch.wire.codec import encode
from llorch.wire.errors import ErrorBody, ErrorReply, to_error, to_reply

EVERY_KIND = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, LlorchError) and kind is not RemoteError
]


def facts(error: LlorchError) -> tuple[object, ...]:
    """Return everything that a receiver can see of an error."""
    return error.code, error.status, error.retriable, error.message, error.details, error.retry_after_s


@pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: str(kind.__name__))
@pytest.mark.parametrize("details", [None, {}, {"near": ["a", "b"], "bytes": 7, "deep": {"x": None}}])
def test_every_error_keeps_what_it_says_on_its_way(kind: type[LlorchError], details: dict[str, object] | None) -> None:
    error = kind("it failed; try again", details=details)
    error.retry_after_s = 7

    body = encode(to_reply(error, "c-1"))
    received = to_error(body, error.status, retry_after_s=7)

    assert facts(received) == facts(error)


def test_the_body_has_the_shape_that_clients_are_promised() -> None:
    error = errors.QueueFull("the queue is full", details={"capacity": 2}, retry_after_s=3)

    reply = to_reply(error, "c-1")

    assert reply == ErrorReply(
        ErrorBody(
            code="QUEUE_FULL",
            message="the queue is full",
            retriable=True,
            details={"capacity": 2},
            correlation_id="c-1",
        )
    )


def test_an_error_without_details_has_no_such_field() -> None:
    reply = to_reply(errors.NotFound("nothing there"), "c-1")

    assert reply.error.details is UNSET
    assert encode(reply) == (
        b'{"error":{"code":"NOT_FOUND","message":"nothing there","correlation_id":"c-1","retriable":false}}'
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad Gateway</html>",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"error":"no"}',
        b'{"error":{"code":"X"}}',
        b'{"error":{"code":1,"message":"m","correlation_id":"c"}}',
        b'{"error":{"code":"X","message":"m","correlation_id":"c","details":' + b'{"a":' * 100_000,
        b'{"error":{"code":"\xff","message":"m","correlation_id":"c"}}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_an_answer_that_is_not_ours_becomes_an_error_of_its_status(body: bytes) -> None:
    received = to_error(body, 502)

    assert facts(received) == ("HTTP_502", 502, True, "the server answered with status 502", None, None)


def test_an_answer_of_a_newer_version_is_still_understood() -> None:
    body = b'{"error":{"code":"NEW","message":"m","correlation_id":"c","retriable":true,"more":1},"extra":{}}'

    received = to_error(body, 503)

    assert facts(received) == ("NEW", 503, True, "m", None, None)
