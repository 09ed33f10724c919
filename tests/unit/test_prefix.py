"""What prompts begin with: the same beginning, the same marks, and nothing that could be read."""

from __future__ import annotations

import base64

import pytest

from llorch.wire.conversation import Function, ImagePart, ImageUrl, Message, TextPart, Tool
from llorch.wire.tasks import SubmitTask
from roles.orchestrator.scheduler.prefix import FIRST_BLOCK_BYTES, MOST_MARKS, Prefix, prefix_of

KEY = b"0123456789abcdef"
TURNS = [Message(role="system", content="Be brief. " * 50), Message(role="user", content="Why is the sky blue?")]
ANSWER = "It scatters."
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def chat(*more: Message, model_ref: str = "m", key: bytes = KEY, tools: list[Tool] | None = None) -> Prefix:
    task = SubmitTask(model="m", messages=[*TURNS, *more], **({"tools": tools} if tools else {}))  # type: ignore[arg-type]
    return prefix_of(task, model_ref, key=key)


def seen(picture: bytes, words: str = "What is this?") -> Message:
    """Say something about a picture, of which a part is not looked at."""
    url = "data:image/png;base64," + base64.b64encode(PNG + picture).decode()
    return Message(role="user", content=[TextPart(words), ImagePart(ImageUrl(url))])


def text(prompt: str) -> Prefix:
    return prefix_of(SubmitTask(model="m", prompt=prompt), "m", key=KEY)


def test_the_next_turn_begins_with_all_of_the_one_before_and_its_answer() -> None:
    first = chat()
    computed = first.followed_by(ANSWER)

    second = chat(Message(role="assistant", content=ANSWER), Message(role="user", content="Really?"))

    assert second.shared_bytes(first.marks) == first.length_bytes
    assert second.shared_bytes(computed.marks) == computed.length_bytes > first.length_bytes
    assert first.marks == chat().marks


def test_an_answer_that_the_client_gives_back_changed_ends_what_is_shared_and_no_more() -> None:
    first = chat()

    second = chat(Message(role="assistant", content=" " + ANSWER))

    assert second.shared_bytes(first.followed_by(ANSWER).marks) == first.length_bytes


@pytest.mark.parametrize(
    "other",
    [
        chat(model_ref="another model"),
        chat(key=b"the key of another process"),
        chat(tools=[Tool(function=Function(name="weather"))]),
    ],
)
def test_another_model_other_tools_and_another_process_share_nothing(other: Prefix) -> None:
    assert other.shared_bytes(chat().marks) == 0


@pytest.mark.parametrize("words", [300, 3_000, 300_000])
def test_texts_that_begin_alike_share_four_fifths_of_that_at_least(words: int) -> None:
    same = "same " * words

    shared = text(same + "and then this").shared_bytes(text(same + "or that").marks)

    assert 0.8 * len(same) - FIRST_BLOCK_BYTES <= shared <= len(same)


def test_a_text_goes_on_behind_its_answer_as_if_it_had_been_one() -> None:
    whole = text("a b " * 400 + "c d " * 400)

    assert text("a b " * 400).followed_by("c d " * 400).marks == whole.marks


def test_the_longest_prompt_has_few_marks() -> None:
    endless = text("x" * 16_000_000)
    chatty = chat(*[Message(role="user", content=f"line {number}") for number in range(4_000)])

    assert len(endless.marks) < MOST_MARKS
    assert len(chatty.marks) == len(chatty.ends) == MOST_MARKS
    assert chatty.ends[-1] == chatty.length_bytes


def test_a_picture_is_as_long_as_a_hash_of_it_and_no_other_has_its_marks() -> None:
    large, other = bytes(3_000_000), bytes(3_000_001)
    first = chat(seen(large))

    second = chat(seen(large), Message(role="assistant", content=ANSWER), Message(role="user", content="Really?"))

    assert (chat().pictures, first.pictures, first.followed_by(ANSWER).pictures) == (False, True, True)
    assert first.length_bytes == chat(seen(b"")).length_bytes < chat().length_bytes + 200
    assert second.shared_bytes(first.followed_by(ANSWER).marks) == first.followed_by(ANSWER).length_bytes
    assert chat(seen(other)).shared_bytes(first.marks) == chat(seen(large, "And this?")).shared_bytes(first.marks)
    assert chat(seen(other)).shared_bytes(first.marks) == chat().length_bytes
