"""The transition table of a job: complete, consistent, and a job ends at most once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.job import FINAL, TRANSITIONS, Move, State, after, sources

S, M = State, Move

ALLOWED = {
    (S.QUEUED, M.CLAIM): S.DISPATCHED,
    (S.QUEUED, M.FAIL): S.FAILED,
    (S.QUEUED, M.CANCEL): S.CANCELLED,
    (S.DISPATCHED, M.START): S.RUNNING,
    (S.DISPATCHED, M.REQUEUE): S.QUEUED,
    (S.DISPATCHED, M.FAIL): S.FAILED,
    (S.DISPATCHED, M.CANCEL): S.CANCELLING,
    (S.RUNNING, M.REQUEUE): S.QUEUED,
    (S.RUNNING, M.COMPLETE): S.COMPLETED,
    (S.RUNNING, M.FAIL): S.FAILED,
    (S.RUNNING, M.CANCEL): S.CANCELLING,
    (S.CANCELLING, M.CONFIRM_CANCEL): S.CANCELLED,
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("move", Move)
def test_a_move_leads_where_the_table_says_or_nowhere(state: State, move: Move) -> None:
    assert after(state, move) == ALLOWED.get((state, move))


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_nothing_happens_to_a_job_that_has_ended(state: State) -> None:
    assert [after(state, move) for move in Move] == [None] * len(Move)


@pytest.mark.parametrize("state", sorted(set(State) - FINAL))
def test_a_job_that_has_not_ended_can_still_end(state: State) -> None:
    reached = {state}

    for _ in State:
        reached |= {found for at in reached for move in Move if (found := after(at, move)) is not None}

    assert reached & FINAL


def test_every_state_can_be_reached_from_the_first() -> None:
    reached = {State.QUEUED}

    for _ in State:
        reached |= {found for at in reached for move in Move if (found := after(at, move)) is not None}

    assert reached == set(State)


@pytest.mark.parametrize("move", Move)
def test_the_sources_of_a_move_are_exactly_the_states_it_leads_out_of(move: Move) -> None:
    found = sources(move)

    assert found == tuple(state for state in State if after(state, move) is not None)
    assert found


@given(st.lists(st.sampled_from(Move), max_size=60))
def test_no_sequence_of_moves_ends_a_job_twice(moves: list[Move]) -> None:
    states = [State.QUEUED]

    for move in moves:
        reached = after(states[-1], move)
        if reached is not None:
            states.append(reached)

    endings = [now for before, now in pairwise(states) if now in FINAL]
    assert len(endings) <= 1
    assert not any(state in FINAL for state in states[:-1])
