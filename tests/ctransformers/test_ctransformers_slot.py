"""One text after the other in the slot of the engine ctransformers, on the real library."""

from __future__ import annotations

import pytest

pytest.importorskip("ctransformers", reason="the extra ctransformers is not installed")

from roles.worker.backend.ctransformers_file import look
from roles.worker.backend.ctransformers_model import Model
from roles.worker.backend.ctransformers_slot import Slot
from roles.worker.backend.engine_text import Rules, Step, Text
from tests.support import old_models

PROMPT = [1, *range(300, 340)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "model.bin"
    path.write_bytes(old_models.llama())
    return Model(path, look(path), ctx=64, threads=1)


def text(text_id: int, *, left: int = 5, rules: Rules | None = None) -> Text:
    return Text(text_id, list(PROMPT), rules or Rules(), left)


def run(slot: Slot) -> list[Step]:
    found: list[Step] = []
    while not slot.idle:
        found += slot.step()
    return found


def test_a_prompt_is_read_in_pieces_and_told_of(model: Model) -> None:
    slot = Slot(model, piece=16)
    slot.add(text(1, left=2))

    steps = run(slot)

    assert [(step.read, step.prompt) for step in steps if step.token is None] == [(16, 41), (32, 41), (41, 41)]
    assert [step.stop for step in steps if step.token is not None] == [None, "max_tokens"]


def test_texts_come_one_after_the_other_and_none_changes_the_next(model: Model) -> None:
    slot = Slot(model, piece=64)
    for text_id in (1, 2):
        slot.add(text(text_id))

    steps = [step for step in run(slot) if step.token is not None]

    assert [step.id for step in steps] == [1] * 5 + [2] * 5
    assert [step.token for step in steps[:5]] == [step.token for step in steps[5:]]


def test_whoever_leaves_makes_room_at_once_whether_it_waits_or_runs(model: Model) -> None:
    slot = Slot(model, piece=16)
    for text_id in (1, 2, 3):
        slot.add(text(text_id))

    list(slot.step())
    for gone in (1, 2, 9):
        slot.drop(gone)
    steps = run(slot)

    assert {step.id for step in steps} == {3}
    assert steps[-1].stop == "max_tokens"


def test_no_text_goes_beyond_the_context(model: Model) -> None:
    slot = Slot(model, piece=64)
    slot.add(text(1, left=1000))

    steps = [step for step in run(slot) if step.token is not None]

    assert (len(steps), steps[-1].stop) == (64 - len(PROMPT), "max_tokens")


def test_chances_are_told_where_they_are_asked_for(model: Model) -> None:
    slot = Slot(model, piece=64)
    slot.add(text(1, left=1, rules=Rules(top_logprobs=3)))

    step = run(slot)[-1]

    assert step.token == step.others[0][0]
    assert step.chance == step.others[0][1]
    assert len(step.others) == 3
