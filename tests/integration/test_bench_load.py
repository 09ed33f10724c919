"""The load of tests/bench against a real source: what a reader of chat completions sees, and when it is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.bench.load import Refused, Streamed, kept_up, stream, whole
from tests.bench.proxies import PATH, PIECE
from tests.bench.proxy_figures import tokens_told
from tests.bench.roles import Process, script


@pytest.fixture(scope="module")
def source() -> Iterator[Process]:
    with script("chat_source", "paced", "5") as running:
        yield running


def body(**fields: object) -> bytes:
    return json.dumps({"model": "paced", "messages": [], "max_tokens": 7, **fields}).encode()


async def test_a_streams_pieces_are_counted_to_its_end_and_timed_from_the_first_with_text(source: Process) -> None:
    asked = body(stream=True, stream_options={"include_usage": True})

    seen = await stream(source.port, PATH, asked, PIECE)

    assert (seen.tokens, tokens_told(seen.tail), seen.ended) == (7, 7, True)
    assert 0 < seen.first_token_s < seen.total_s


async def test_an_answer_in_one_piece_is_read_whole(source: Process) -> None:
    seen = await whole(source.port, PATH, body())

    assert (tokens_told(seen.tail), seen.ended) == (7, True)
    assert seen.total_s > 0
    assert json.loads(seen.tail)["choices"][0]["message"]["content"] == " word" * 7


async def test_what_is_refused_says_why(source: Process) -> None:
    with pytest.raises(Refused, match=r"400 .*max_tokens"):
        await stream(source.port, PATH, b'{"stream": true}', PIECE)
    with pytest.raises(Refused, match="404"):
        await whole(source.port, "/v1/nothing", body())


async def test_as_many_are_in_flight_as_were_asked_for_until_the_time_is_over(source: Process) -> None:
    running = most = 0

    async def ask() -> Streamed:
        nonlocal running, most
        running += 1
        most = max(most, running)
        seen = await whole(source.port, PATH, body())
        running -= 1
        return seen

    seen, seconds = await kept_up(ask, in_flight=3, seconds=0.1)

    assert most == 3
    assert len(seen) >= 3
    assert all(one.ended for one in seen)
    assert seconds >= 0.1
