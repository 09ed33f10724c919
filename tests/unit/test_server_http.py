"""Where a server's addresses are, and what is taken from its errors: nothing that could be a prompt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.server_http import MAX_LINE_BYTES, Lines, LineTooLong, addresses, retry_after_s, sign_of

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


@given(
    st.lists(st.sampled_from([b"", b"a", b"data: b", b"\n", b"c\n\nd", b"\r\n"]), max_size=12).map(b"".join), st.data()
)
def test_lines_are_the_same_however_they_come(text: bytes, data: st.DataObject) -> None:
    lines, found = Lines(), []
    rest = text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        found += lines.feed(rest[:size])
        rest = rest[size:]

    assert found == text.split(b"\n")[:-1]


@pytest.mark.parametrize("before", [b"", b"a\n", b"\n" * 9])
@pytest.mark.parametrize("behind", [b"", b"\n", b"\na"])
def test_a_line_has_a_longest_length_in_one_piece_or_in_many(before: bytes, behind: bytes) -> None:
    longest = b"x" * MAX_LINE_BYTES

    assert longest in Lines().feed(before + longest + b"\n")
    with pytest.raises(LineTooLong):
        Lines().feed(before + longest + b"x" + behind)
    in_pieces = Lines()
    in_pieces.feed(before + longest[1:])
    in_pieces.feed(b"x")
    with pytest.raises(LineTooLong):
        in_pieces.feed(b"x" + behind)


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
