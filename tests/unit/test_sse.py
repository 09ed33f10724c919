"""Server-Sent Events: what is written reads back equal, however the bytes were cut and whatever the line ending."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.sse import KEEPALIVE, MAX_EVENT_BYTES, Event, EventTooLarge, Splitter, encode_event, parse, parse_block

names = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=12)
lines = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=40).map(str.encode)
events = st.builds(Event, names, names, lines)
ENDINGS = (b"\n", b"\r\n", b"\r")


def read(chunks: list[bytes]) -> list[Event]:
    """Parse what arrives in *chunks*."""
    splitter = Splitter()
    blocks = [block for chunk in chunks for block in splitter.feed(chunk)]
    return [event for block in blocks if (event := parse_block(block)) is not None]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut *data* at *places*, taken modulo its length."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


def test_an_event_is_three_lines_and_a_blank_one() -> None:
    encoded = encode_event("token", "3.0", b'{"i":2,"t":"a"}')

    assert encoded == b'event: token\nid: 3.0\ndata: {"i":2,"t":"a"}\n\n'


@settings(max_examples=150)
@given(
    st.lists(st.one_of(events, st.none()), max_size=8),
    st.lists(st.integers(min_value=0), max_size=30),
    st.sampled_from(ENDINGS),
)
def test_events_read_back_equal_wherever_the_stream_is_cut(
    sent: list[Event | None], places: list[int], ending: bytes
) -> None:
    encoded = b"".join(KEEPALIVE if event is None else encode_event(*event) for event in sent)
    stream = encoded.replace(b"\n", ending) + b":"  # the next line begins, so that a last CR is known to be a whole end

    received = read(cut(stream, places))

    assert received == [event for event in sent if event is not None]


@pytest.mark.parametrize("ending", ENDINGS)
def test_events_read_back_equal_when_they_arrive_byte_by_byte(ending: bytes) -> None:
    sent = [Event("token", "1.0", "é😀".encode()), Event("end", "1.1", b"{}")]
    stream = b"".join(encode_event(*event) for event in sent).replace(b"\n", ending) + b":"

    received = read([bytes([byte]) for byte in stream])

    assert received == sent


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: a\r", b"\n\r", b"\ndata: b\r\n\r\n"],
        [b"data: a\r\n\r", b"\ndata: b\r\n\r\n"],
        [b"data: a\r", b"\rdata: b\r\r:"],
        [b"data: a\n", b"\r\ndata: b\r", b"\n\n"],
        [b"data: a\n", b"\ndata: b\n", b"\n"],
        [b"data: a\r", b"", b"\n\r\n", b"", b"data: b\n\n"],
    ],
)
def test_a_line_ending_cut_in_two_is_one_line_ending(chunks: list[bytes]) -> None:
    assert read(chunks) == [Event("message", "", b"a"), Event("message", "", b"b")]


def test_an_event_is_not_given_out_before_its_blank_line() -> None:
    splitter = Splitter()

    early = splitter.feed(b"data: a\n")
    then = splitter.feed(b"\n")

    assert (early, then) == ([], [b"data: a"])


@pytest.mark.parametrize(
    ("block", "event"),
    [
        (b"data: a\ndata: b\ndata: c", Event("message", "", b"a\nb\nc")),
        (b"data:a", Event("message", "", b"a")),
        (b"data:  a", Event("message", "", b" a")),
        (b"data", Event("message", "", b"")),
        (b"data:", Event("message", "", b"")),
        (b"data: a:b: c", Event("message", "", b"a:b: c")),
        (b": note\nevent: token\n: more\nid: 1.0\nretry: 5\nother: x\ndata: {}", Event("token", "1.0", b"{}")),
        (b"id: 1\0\ndata: a", Event("message", "", b"a")),
        (b"event: \xff\ndata: a", Event("\ufffd", "", b"a")),
        (b": keep-alive", None),
        (b"event: token\nid: 1.0", None),
        (b"", None),
    ],
)
def test_a_block_is_read_as_the_standard_says(block: bytes, event: Event | None) -> None:
    assert parse_block(block) == event


@pytest.mark.parametrize("feeds", [[b"\n\n\n\n"], [b"\n", b"\n", b"\n"], [b""]])
def test_blank_lines_alone_are_no_blocks(feeds: list[bytes]) -> None:
    splitter = Splitter()

    assert [block for data in feeds for block in splitter.feed(data)] == []


def test_a_whole_stream_in_memory_needs_no_closing_blank_line() -> None:
    found = list(parse(b": hello\n\nevent: token\nid: 1.0\ndata: a\n\ndata: b"))

    assert found == [Event("token", "1.0", b"a"), Event("message", "", b"b")]


def test_an_event_that_grows_beyond_the_limit_is_refused() -> None:
    splitter = Splitter()
    splitter.feed(b"x" * MAX_EVENT_BYTES)

    with pytest.raises(EventTooLarge):
        splitter.feed(b"x")


def test_many_events_may_together_be_larger_than_one_may_be() -> None:
    splitter = Splitter()
    half = b"data: " + b"x" * (MAX_EVENT_BYTES // 2) + b"\n\n"

    received = [len(splitter.feed(half)) for _ in range(3)]

    assert received == [1, 1, 1]
