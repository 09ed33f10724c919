"""From chunks to events: counts, reasons, what is shown, and what another attempt needs to go on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llorch.wire.events import StopReason
from roles.worker.backend import Chunk
from roles.worker.inference.generation import Draft, Tally
from roles.worker.inference.job import Piece


def drafted(chunks: list[Chunk], stops: list[str], *, held: str = "") -> tuple[list[Piece], StopReason | None]:
    draft = Draft(stops, held=held)
    pieces, reason = draft.begin()
    if reason is None:
        more, reason = draft.add(chunks)
        pieces += more
    return pieces, reason


def chunks_of(texts: list[str], *, stop: StopReason = "max_tokens") -> list[Chunk]:
    """Return chunks whose ids are their positions; a token that ends the text is counted and has no chunk."""
    chunks = [Chunk(text, number + 1, ids=[number]) for number, text in enumerate(texts)]
    return [*chunks, Chunk("", len(texts) + (stop == "eos"), stop)]


def test_every_token_without_stop_sequences_is_an_event_with_its_id() -> None:
    assert drafted([Chunk("a", 1, ids=[5]), Chunk("😀", 3, ids=[6, 7])], []) == (
        [Piece("a", [5], ""), Piece("😀", [6, 7], "")],
        None,
    )


def test_the_last_chunk_releases_what_was_held_back() -> None:
    shown = drafted(chunks_of(["hello E", "N"]), ["END"])

    assert shown == ([Piece("hello ", [0], "E"), Piece("EN", [1], "")], "max_tokens")


def test_the_token_that_ends_the_text_belongs_to_no_event() -> None:
    announced = [Chunk("E", 1, ids=[0]), Chunk("", 2, ids=[99]), Chunk("", 2, "eos")]
    unannounced = [Chunk("E", 1, ids=[0]), Chunk("", 2, "eos")]

    assert drafted(announced, ["END"]) == drafted(unannounced, ["END"]) == ([Piece("E", [0], "")], "eos")


def test_a_token_without_text_goes_with_the_next_event() -> None:
    assert drafted([Chunk("", 1, ids=[3]), Chunk("a", 2, ids=[4])], []) == ([Piece("a", [3, 4], "")], None)


def test_a_stop_sequence_ends_the_text_where_it_was_complete() -> None:
    draft = Draft(["END"])

    shown = draft.add([Chunk("a", 1), Chunk("EN", 2), Chunk("D b", 3), Chunk("c", 4)])

    assert shown == ([Piece("a", [], "")], "stop_sequence")
    assert draft.count == 3


def test_text_before_a_stop_sequence_comes_with_what_makes_another_attempt_stop_too() -> None:
    shown = drafted(chunks_of(["a E", "ND b"]), ["END", " EX"])

    assert shown == ([Piece("a", [0], " E"), Piece(" ", [1], "END b")], "stop_sequence")
    assert drafted([], ["END", " EX"], held="END b") == ([], "stop_sequence")


def test_prefill_shows_nothing() -> None:
    draft = Draft([])

    assert draft.add([Chunk(prefilled=4, prefill_total=9), Chunk(prefilled=9, prefill_total=9)]) == ([], None)
    assert draft.count == 0


@given(
    st.lists(st.text(alphabet="ab😀", max_size=3), max_size=8),
    st.lists(st.text(alphabet="ab😀", min_size=1, max_size=4), max_size=3),
    st.sampled_from(["max_tokens", "eos"]),
    st.data(),
)
def test_an_attempt_that_goes_on_after_any_event_comes_to_the_same_text_and_end(
    texts: list[str], stops: list[str], stop: StopReason, data: st.DataObject
) -> None:
    chunks = chunks_of(texts, stop=stop)
    whole, reason = drafted(chunks, stops)
    seen = data.draw(st.integers(0, len(whole)))
    known = [token for piece in whole[:seen] for token in piece.ids]
    held = whole[seen - 1].held if seen else ""

    rest, again = drafted(chunks[len(known) :], stops, held=held)

    assert known == list(range(len(known)))
    assert "".join(texts[: len(known)]) == "".join(piece.text for piece in whole[:seen]) + held
    assert again == reason
    assert "".join(piece.text for piece in rest) == "".join(piece.text for piece in whole[seen:])


def test_the_end_tells_what_was_counted() -> None:
    tally = Tally(tokens_in=9, tokens_out=4, began_s=10.0, first_token_s=10.25)

    end = tally.end("eos")

    assert (end.tokens_in, end.tokens_out, end.stop_reason, end.prefill_ms) == (9, 4, "eos", 250)
