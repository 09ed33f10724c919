"""The replay buffer: nothing lost, nothing twice, and no more kept than allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.errors import JobNotFound
from roles.worker.inference.replay import Replay


def filled(count: int, limit_bytes: int = 1_000_000) -> Replay:
    replay = Replay(limit_bytes)
    for number in range(count):
        replay.append((number + 1, 0), b"%03d," % number)
    return replay


@given(st.integers(0, 50), st.integers(0, 60))
def test_reading_after_an_id_gives_exactly_what_came_after_it(count: int, seen: int) -> None:
    replay = filled(count)

    rest = replay.read(replay.position_after((seen, 0)))

    assert rest == b"".join(b"%03d," % number for number in range(seen, count))


@given(st.integers(1, 100), st.integers(0, 100))
def test_only_what_was_read_is_let_go_and_only_half_stays(count: int, read: int) -> None:
    replay = filled(count, limit_bytes=40)
    read = min(read, count)

    replay.let_go(read)

    assert replay.end == count
    assert replay.read(read) == b"".join(b"%03d," % number for number in range(read, count))
    assert replay.full == (min(count - read, count) * 4 > 40)


def test_an_id_before_what_was_let_go_is_refused_and_never_skips_events() -> None:
    replay = filled(20, limit_bytes=40)
    replay.let_go(20)

    assert replay.read(0) is None
    assert replay.position_after((15, 0)) == 15
    with pytest.raises(JobNotFound):
        replay.position_after((3, 0))


def test_events_that_are_not_tokens_keep_their_place() -> None:
    replay = Replay(1000)
    for event_id in ((0, 17), (1, 0), (1, 18), (2, 0), (2, 19)):
        replay.append(event_id, b"%d.%d " % event_id)

    assert replay.read(replay.position_after((1, 0))) == b"1.18 2.0 2.19 "
    assert replay.read(replay.position_after((0, -1))) == b"0.17 1.0 1.18 2.0 2.19 "
