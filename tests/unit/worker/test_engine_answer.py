"""Tokens that become whole characters on their way out, with the ids they came from."""

from __future__ import annotations

from roles.worker.backend.engine_answer import Answer, Writing
from roles.worker.backend.engine_messages import Piece
from roles.worker.backend.engine_text import Step

SAID = [b"", b"bake", *(bytes([byte]) for byte in "é😀".encode())]
E, SMILE = (2, 3), (4, 5, 6, 7)


class Words:
    """A vocabulary of a word, the bytes of two characters, and a token that ends a text."""

    def bytes_of(self, token: int) -> bytes:
        return SAID[token]

    def told(self, token: int) -> tuple[str, list[int]]:
        return SAID[token].decode("utf-8", "ignore"), list(SAID[token])


def test_a_character_is_told_once_it_is_whole() -> None:
    writing = Writing(Words())

    told = [writing.add(token) for token in (1, *E, *SMILE)]
    writing.add(SMILE[0])

    assert told == ["bake", None, "é", None, None, None, "😀"]
    assert writing.rest() == ""


def test_ids_and_chances_wait_until_their_characters_are_whole() -> None:
    answer = Answer(Words())

    first = answer.add(Step(3, token=E[0], chance=-1.0, others=[(1, -0.5)]))
    whole = answer.add(Step(3, token=E[1], chance=-2.0))

    assert first is None
    assert whole is not None
    assert (whole.text, whole.count, whole.ids) == ("é", 2, list(E))
    assert [(each.token, each.logprob, each.bytes) for each in whole.logprobs] == [
        ("", -1.0, [0xC3]),
        ("", -2.0, [0xA9]),
    ]
    assert [(other.token, other.logprob) for other in whole.logprobs[0].top_logprobs] == [("bake", -0.5)]


def test_the_token_that_ends_a_text_is_counted_and_is_not_part_of_it() -> None:
    answer = Answer(Words())

    answer.add(Step(3, token=1))
    end = answer.add(Step(3, token=0, stop="eos"))

    assert end == Piece(id=3, text="", count=2, stop="eos")


def test_what_was_left_of_a_character_at_the_end_is_not_told() -> None:
    answer = Answer(Words())

    end = answer.add(Step(3, token=SMILE[0], stop="max_tokens"))

    assert end == Piece(id=3, text="", count=1, stop="max_tokens")


def test_how_much_of_the_prompt_is_read_is_passed_on() -> None:
    assert Answer(Words()).add(Step(3, read=5, prompt=9, cached=2)) == Piece(id=3, read=5, prompt=9, cached=2)
