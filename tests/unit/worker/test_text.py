"""Stop sequences and characters: what comes out does not depend on how the text was split."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roles.worker.backend import REPLACEMENT
from roles.worker.inference.text import Cutter, first_stop

TEXTS = st.text(alphabet="abc😀", max_size=30)
STOPS = st.lists(st.text(alphabet="abc😀", min_size=1, max_size=4), max_size=4)


def expected(text: str, stops: list[str]) -> str:
    """Say by brute force what is before the stop sequence that is complete first."""
    for end in range(1, len(text) + 1):
        matching = [stop for stop in stops if text[:end].endswith(stop)]
        if matching:
            return text[: end - max(map(len, matching))]
    return text


def cut(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    cutter = Cutter(stops)
    shown = ""
    for piece in pieces:
        shown += cutter.feed(piece)
        if cutter.stopped:
            return shown, True
    return shown + cutter.flush(), False


@given(st.lists(TEXTS, max_size=8), STOPS)
def test_the_output_is_the_text_up_to_the_first_stop_however_it_is_split(pieces: list[str], stops: list[str]) -> None:
    text = "".join(pieces)

    shown, stopped = cut(pieces, stops)

    assert shown == expected(text, stops)
    assert stopped == (first_stop(text, stops) is not None)


@given(st.lists(TEXTS, max_size=8), STOPS)
def test_nothing_is_shown_before_it_is_sure(pieces: list[str], stops: list[str]) -> None:
    cutter = Cutter(stops)
    text = shown = ""
    for piece in pieces:
        text += piece
        shown += cutter.feed(piece)
        if cutter.stopped:
            break

        longest = max((text.endswith(stop[:n]) * n for stop in stops for n in range(1, len(stop))), default=0)
        assert shown == text[: len(text) - longest]


@given(st.lists(st.text(alphabet="a" + REPLACEMENT, max_size=5), max_size=8), STOPS)
def test_what_is_not_a_character_never_comes_out(pieces: list[str], stops: list[str]) -> None:
    shown, _ = cut(pieces, stops)

    assert REPLACEMENT not in shown


@given(st.lists(TEXTS, max_size=8), st.integers(0, 8), STOPS)
def test_another_cutter_goes_on_from_what_was_held(pieces: list[str], border: int, stops: list[str]) -> None:
    first = Cutter(stops)
    shown = ""
    for piece in pieces[:border]:
        shown += first.feed(piece)
        if first.stopped:
            break

    second = Cutter(stops, held=first.held)
    for piece in ["", *pieces[border:]]:
        shown += second.feed(piece)
        if second.stopped:
            break
    else:
        shown += second.flush()

    assert shown == expected("".join(pieces), stops)


def test_what_was_held_is_not_lost_without_a_stop_sequence() -> None:
    assert Cutter([], held="EN").feed("D") == "END"


def test_a_stop_sequence_that_only_begins_is_shown_in_the_end() -> None:
    assert cut(["hello EN", "D of"], ["END."]) == ("hello END of", False)


def test_without_stop_sequences_every_piece_passes_at_once() -> None:
    cutter = Cutter([])

    assert [cutter.feed(piece) for piece in ("a", "", "b")] == ["a", "", "b"]
