"""Where a server's addresses are, and what is taken from its errors: nothing that could be a prompt."""

from __future__ import annotations

import pytest

from llorch.server_http import addresses, retry_after_s, sign_of

NOW_S = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("url", "root", "base"),
    [
        ("http://h:8000/v1", "http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/v1/", "http://h:8000", "http://h:8000/v1"),
        ("http://h:8000", "http://h:8000", "http://h:8000/v1"),
        ("https://h/api/openai/v1", "https://h/api/openai", "https://h/api/openai/v1"),
    ],
)
def test_a_base_url_is_understood_with_and_without_its_end(url: str, root: str, base: str) -> None:
    assert addresses(url) == (root, base)


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        (
            b'{"error":{"message":"my secret prompt","type":"BadRequestError","param":null,"code":400}}',
            "BadRequestError",
        ),
        (b'{"error":{"message":"x","type":"exceed_context_size_error","code":400}}', "exceed_context_size_error"),
        (b'{"object":"error","message":"my secret prompt","type":"BadRequest","code":400}', "BadRequest"),
        (
            b'{"error":{"type":"you said: my secret prompt","code":"context_length_exceeded"}}',
            "context_length_exceeded",
        ),
        (b'{"error":"my secret prompt"}', ""),
        (b'{"detail":[{"input":"my secret prompt"}]}', ""),
        (b"<html>my secret prompt", ""),
        (b"\xff", ""),
    ],
)
def test_only_the_word_for_an_error_is_taken_from_it(text: bytes, sign: str) -> None:
    assert sign_of(text) == sign


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *[("7", 7), ("0", 0), ("Wed, 21 Oct 2015 07:28:30 GMT", 30), ("Wed, 21 Oct 2015 07:00:00 GMT", 0)],
        *[("soon", None), ("9" * 5000, 999_999_999)],
        *[
            (f"Wed, 21 Oct {year} 07:28:{second} {zone}", None)
            for year, second, zone in [
                ("99999999999999999999", "00", "GMT"),
                ("2015", "99999999999999999999", "GMT"),
                ("2015", "00", "+99999999999999999999"),
            ]
        ],
    ],
)
def test_a_server_may_ask_for_patience_in_seconds_or_until_a_date(header: str, seconds: int | None) -> None:
    assert retry_after_s(header, now_s=NOW_S) == seconds
    assert retry_after_s("", now_s=NOW_S) is None
