"""The torch engine's forward pass against transformers' own, on checkpoints with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
transformers = pytest.importorskip("transformers", reason="the reference implementation is not installed")

from roles.worker.backend import torch_weights  # noqa: E402 - after the skip
from roles.worker.backend.engine_text import Rules, Text  # noqa: E402
from roles.worker.backend.torch_batching import Batching  # noqa: E402
from roles.worker.backend.torch_config import read_shape  # noqa: E402
from roles.worker.backend.torch_model import Model  # noqa: E402
from tests.support import checkpoints  # noqa: E402
from tests.support.checkpoints import Variant  # noqa: E402
from tests.support.models import Shape  # noqa: E402

torch.set_num_threads(1)  # threads that wait for each other do so in a busy loop, and there are few cores
pytestmark = pytest.mark.filterwarnings("default")  # those of transformers are not ours

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
CASES = {
    "llama": (Shape(), Variant()),
    "llama-grouped-tied-llama3": (Shape(n_head=8, n_kv_head=2, ctx=1024), Variant(tied=True, rope=LLAMA3)),
    "llama-wide-heads-linear": (
        Shape(n_head=4, n_kv_head=1, head=32),
        Variant(rope={"rope_type": "linear", "factor": 2.0}),
    ),
    "llama-in-3-files": (Shape(n_embd=96, n_layer=3, n_head=6, n_kv_head=3, n_ff=224), Variant(files=3)),
    "qwen2": (Shape(n_head=4, n_kv_head=2), Variant("qwen2", biased=True)),
    "qwen2-tied": (Shape(n_embd=128, n_head=8, n_kv_head=2, n_layer=4), Variant("qwen2", biased=True, tied=True)),
    "qwen3": (Shape(n_head=4, n_kv_head=2, head=24), Variant("qwen3", normed=True)),
}
LENGTHS = (1, 63, 64, 65, 300)


@pytest.fixture(scope="module", params=CASES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape, variant = CASES[request.param]
    return checkpoints.make(tmp_path_factory.mktemp("model") / request.param, shape, variant)


def reference(folder: Path) -> Any:  # noqa: ANN401 - a library without types
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def ours(folder: Path, *, slots: int = 1) -> Model:
    shape = read_shape((folder / "config.json").read_bytes())
    weights = torch_weights.load(
        folder, shape, dtype=torch.float32, device=torch.device("cpu"), on_progress=lambda _: None
    )
    return Model(shape, weights, slots=slots, ctx=shape.context_length)


def prompts(vocabulary: int, *lengths: int) -> list[list[int]]:
    random = torch.Generator().manual_seed(5)
    return [torch.randint(0, vocabulary, (length,), generator=random).tolist() for length in lengths]


def run(batching: Batching, texts: list[Text]) -> dict[int, list[int]]:
    """Generate all texts at once; return what came of each."""
    for text in texts:
        batching.add(text)
    found: dict[int, list[int]] = {text.id: [] for text in texts}
    while not batching.idle:
        for step in batching.step():
            if step.token is not None:
                found[step.id].append(step.token)
    return found


def likeliest_by_reference(model: Any, prompt: list[int], count: int) -> list[int]:  # noqa: ANN401 - the same
    made = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=count,
        min_new_tokens=count,
        eos_token_id=None,
        pad_token_id=0,
    )
    found: list[int] = made[0, len(prompt) :].tolist()
    return found


def test_the_scores_are_those_of_the_reference(folder: Path) -> None:
    theirs, mine = reference(folder), ours(folder)

    for prompt in prompts(mine.shape.vocab_size, *LENGTHS):
        with torch.inference_mode():
            wanted = theirs(torch.tensor([prompt])).logits[0, -1]
        whole = mine.read(0, prompt, 0)
        torch.testing.assert_close(whole, wanted, atol=2e-4, rtol=1e-4)


def test_greedy_texts_are_those_of_the_reference_token_for_token(folder: Path) -> None:
    theirs, mine = reference(folder), ours(folder)
    wanted = prompts(mine.shape.vocab_size, *LENGTHS)

    for number, prompt in enumerate(wanted):
        alone = run(Batching(mine, slots=1, piece=50, reuse=False), [Text(number, list(prompt), Rules(), 24)])
        assert alone[number] == likeliest_by_reference(theirs, prompt, 24)


def test_texts_that_share_the_model_with_others_are_those_of_the_reference(folder: Path) -> None:
    theirs, mine = reference(folder), ours(folder, slots=4)
    wanted = prompts(mine.shape.vocab_size, 5, 200, 17, 64, 1, 130, 90, 33)
    texts = [Text(number, list(prompt), Rules(), 6 + 3 * number) for number, prompt in enumerate(wanted)]

    found = run(Batching(mine, slots=4, piece=48, reuse=True), texts)

    assert found == {
        number: likeliest_by_reference(theirs, prompt, 6 + 3 * number) for number, prompt in enumerate(wanted)
    }
