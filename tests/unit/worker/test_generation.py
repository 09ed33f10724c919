"""From chunks to events: counts, reasons, and what is shown."""

from __future__ import annotations

from roles.worker.backend import Chunk
from roles.worker.inference.generation import Tally, _cut
from roles.worker.inference.text import Cutter


def test_the_last_chunk_releases_what_was_held_back() -> None:
    tally = Tally(tokens_in=1)

    shown = _cut([Chunk("hello E", 1), Chunk("N", 2), Chunk("", 2, "max_tokens")], Cutter(["END"]), tally)

    assert shown == (["hello ", "EN"], "max_tokens")
    assert tally.tokens_out == 2


def test_a_stop_sequence_ends_the_text_and_the_count_where_it_was_complete() -> None:
    tally = Tally(tokens_in=1)

    shown = _cut([Chunk("a", 1), Chunk("EN", 2), Chunk("D b", 3), Chunk("c", 4)], Cutter(["END"]), tally)

    assert shown == (["a"], "stop_sequence")
    assert tally.tokens_out == 3


def test_prefill_shows_nothing() -> None:
    tally = Tally(tokens_in=9)

    assert _cut([Chunk(prefilled=4, prefill_total=9), Chunk(prefilled=9, prefill_total=9)], Cutter([]), tally) == (
        [],
        None,
    )
    assert tally.tokens_out == 0


def test_the_end_tells_what_was_counted() -> None:
    tally = Tally(tokens_in=9, tokens_out=4, began_s=10.0, first_token_s=10.25)

    end = tally.end("eos")

    assert (end.tokens_in, end.tokens_out, end.stop_reason, end.prefill_ms) == (9, 4, "eos", 250)
