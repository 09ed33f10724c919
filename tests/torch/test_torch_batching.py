"""Which texts get which slots, and who leaves when."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from roles.worker.backend import torch_weights  # noqa: E402 - after the skip
from roles.worker.backend.engine_text import Rules, Step, Text  # noqa: E402
from roles.worker.backend.torch_batching import Batching  # noqa: E402
from roles.worker.backend.torch_config import read_shape  # noqa: E402
from roles.worker.backend.torch_model import Model  # noqa: E402
from tests.support import checkpoints  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = checkpoints.make(tmp_path_factory.mktemp("model"))
    shape = read_shape((folder / "config.json").read_bytes())
    cpu = torch.device("cpu")
    weights = torch_weights.load(folder, shape, dtype=torch.float32, device=cpu, on_progress=lambda _: None)
    return Model(shape, weights, slots=2, ctx=128)


def text(number: int, length: int, left: int = 5) -> Text:
    return Text(number, [300 + place % 7 for place in range(length)], Rules(), left)


def test_a_step_reads_one_piece_of_one_prompt_and_lets_all_others_go_on(model: Model) -> None:
    batching = Batching(model, slots=2, piece=10, reuse=False)
    batching.add(text(1, 4))
    batching.add(text(2, 25))
    batching.add(text(3, 4))

    steps = [[(step.id, step.read, step.token is not None) for step in batching.step()] for _ in range(4)]

    assert steps == [
        [(1, 4, False), (1, 0, True)],
        [(2, 10, False), (1, 0, True)],
        [(2, 20, False), (1, 0, True)],
        [(2, 25, False), (2, 0, True), (1, 0, True)],
    ]


def test_who_is_dropped_is_gone_at_the_next_step_and_the_next_one_in_line_takes_the_slot(model: Model) -> None:
    batching = Batching(model, slots=1, piece=10, reuse=False)
    batching.add(text(1, 60))
    batching.add(text(2, 5))
    batching.add(text(3, 5, left=1))
    list(batching.step())

    batching.drop(1)
    batching.drop(2)
    batching.drop(99)
    left = list(batching.step())

    assert [(step.id, step.stop) for step in left] == [(3, None), (3, "max_tokens")]
    assert batching.idle


def test_a_text_ends_where_the_context_does(model: Model) -> None:
    batching = Batching(model, slots=1, piece=200, reuse=False)
    batching.add(text(1, 120, left=1000))

    steps: list[Step] = []
    while not batching.idle:
        steps += batching.step()

    assert len([step for step in steps if step.token is not None]) == 8
    assert steps[-1].stop == "max_tokens"


def test_a_text_goes_to_the_slot_that_remembers_its_beginning_and_reads_only_the_rest(model: Model) -> None:
    batching = Batching(model, slots=2, piece=10, reuse=True)
    first = [300 + place for place in range(40)]
    other = [500 + place for place in range(40)]
    for number, tokens in enumerate((first, other)):
        batching.add(Text(number, list(tokens), Rules(), 1))
    while not batching.idle:
        list(batching.step())

    batching.add(Text(2, [*other, 7, 8], Rules(), 1))
    steps = list(batching.step())

    assert [(step.id, step.cached, step.stop) for step in steps] == [(2, 40, None), (2, 0, "max_tokens")]
