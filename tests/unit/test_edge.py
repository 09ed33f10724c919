"""The pure parts of the server side: which correlation ids are taken over, and how an error is rendered."""

from __future__ import annotations

import pytest

from llorch.edge import CORRELATION, error_response
from llorch.errors import JobNotFound, QueueFull


@pytest.mark.parametrize("text", ["a", "Z", "0", "-", "a" * 64, "0d9c1b1e-4f7a-4a53-9f39-0d3a4a1c4a6e"])
def test_a_well_formed_correlation_id_is_taken_over(text: str) -> None:
    assert CORRELATION.match(text)


@pytest.mark.parametrize("text", ["", "a" * 65, "a b", "a_b", "a.b", "é", "a\r\nb", "\na", "a;b", '"', "{}", "²"])
def test_any_other_correlation_id_is_replaced(text: str) -> None:
    assert not CORRELATION.match(text)


def test_an_error_is_rendered_with_its_status_its_body_and_when_to_try_again() -> None:
    response = error_response(QueueFull("full", retry_after_s=12), "c-1")

    assert response.status == 429
    assert response.headers["Retry-After"] == "12"
    assert response.headers["X-Correlation-Id"] == "c-1"
    assert response.content_type == "application/json"
    assert response.body == (
        b'{"error":{"code":"QUEUE_FULL","message":"full","correlation_id":"c-1","retriable":true}}'
    )


def test_an_error_that_no_wait_helps_says_nothing_of_waiting() -> None:
    response = error_response(JobNotFound("gone"), "c-1")

    assert response.status == 404
    assert "Retry-After" not in response.headers
