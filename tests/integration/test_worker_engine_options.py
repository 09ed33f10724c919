"""What a worker does with a type of its KV cache, LoRA adapters and a draft model: the real engine, small models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from llorch import errors
from llorch.wire.engine_options import PLAIN, EngineOptions, KvType
from tests.support import models
from tests.support.beside import make_adapter, make_projector
from tests.support.workers import Worker, last, worker, worker_process

HAIKU = Path(__file__).parents[2] / "llorch/assets/haiku.gguf"
JOB: dict[str, object] = {"prompt": "bake kilo dumi lani", "temperature": 0, "max_tokens": 60}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.make(tmp_path_factory.mktemp("models") / "m.gguf")


async def written(model: Path, options: EngineOptions = PLAIN, job: Mapping[str, object] = JOB) -> str:
    """Return what a worker with those options writes."""
    async with worker(model, slots=1, engine_options=options) as one:
        return await one.text("job", **job)


async def counted(one: Worker, name: str) -> float:
    async with one.http.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


@pytest.mark.parametrize("kv_type", ["q8_0", "q4_0", "bf16"])
async def test_a_cache_of_any_type_can_be_used(model: Path, kv_type: KvType) -> None:
    assert await written(model, EngineOptions(kv_type=kv_type))


async def test_a_lora_adapter_changes_what_is_written_by_its_scale(model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "lora.gguf")

    plain = await written(model)
    texts = [await written(model, EngineOptions(lora=(f"{adapter}{scale}",))) for scale in (":0", ":4", ":-4")]

    assert texts[0] == plain
    assert len({plain, *texts}) == 3


async def test_two_adapters_are_both_used(model: Path, tmp_path: Path) -> None:
    one, other = make_adapter(tmp_path / "1.gguf", seed=1), make_adapter(tmp_path / "2.gguf", seed=2)

    texts = {
        await written(model, EngineOptions(lora=lora))
        for lora in ((f"{one}:4",), (f"{other}:4",), (f"{one}:4", f"{other}:4"))
    }

    assert len(texts) == 3


async def test_a_draft_model_of_other_weights_does_not_change_the_text(model: Path, tmp_path: Path) -> None:
    draft = models.make(tmp_path / "draft.gguf", seed=9)

    plain = await written(model)
    async with worker(model, slots=2, engine_options=EngineOptions(draft=str(draft))) as one:
        text = await one.text("job", **JOB)
        drafted, accepted = (
            await counted(one, "worker_tokens_drafted_total"),
            await counted(one, "worker_tokens_draft_accepted_total"),
        )

    assert text == plain
    assert drafted > 0
    assert accepted < drafted


async def test_a_model_that_drafts_for_itself_guesses_right_and_changes_nothing() -> None:
    job: dict[str, object] = {"prompt": "Write a haiku that contains the word rain", "temperature": 0, "max_tokens": 40}

    plain = await written(HAIKU, job=job)
    async with worker(HAIKU, slots=1, engine_options=EngineOptions(draft=str(HAIKU))) as one:
        text, ended = await one.text("job", **job), await one.execute("again", **job, stop=["\n"])
        drafted = await counted(one, "worker_tokens_drafted_total")
        accepted = await counted(one, "worker_tokens_draft_accepted_total")

    assert text == plain
    assert last(ended)["stop_reason"] == "stop_sequence"
    assert accepted > 0
    assert accepted >= 0.9 * drafted


async def test_a_draft_model_helps_with_a_form_and_with_tokens_that_are_told(tmp_path: Path) -> None:
    job = JOB | {"response_format": {"type": "json_object"}, "logprobs": True, "top_logprobs": 2}
    model = models.make(tmp_path / "m.gguf", seed=3)

    plain = await written(model, job=job)

    assert await written(model, EngineOptions(draft=str(model)), job) == plain


@pytest.mark.parametrize(
    ("option", "content", "said"),
    [
        ("lora", None, "there is no model file at"),
        ("draft", b"no model", "is not a GGUF file"),
        ("projector", None, "there is no model file at"),
    ],
)
async def test_a_file_that_is_not_there_or_no_gguf_is_told_in_one_line(
    model: Path, tmp_path: Path, option: str, content: bytes | None, said: str
) -> None:
    path = tmp_path / "beside.gguf"
    if content is not None:
        path.write_bytes(content)
    value = [str(path)] if option == "lora" else str(path)
    options = msgspec.convert({option: value}, EngineOptions)

    with pytest.raises(errors.LlorchError, match=said):
        await written(model, options)


async def test_a_file_of_another_kind_ends_the_worker_with_the_reason(model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "wide.gguf", models.Shape(n_embd=128))
    projector = make_projector(tmp_path / "wide-projector.gguf", models.Shape(n_embd=128))
    lines = []

    for options in ({"lora": [str(adapter)]}, {"projector": str(projector)}):
        async with worker_process(model, engine_options=options) as started:
            status, said = await started.end()
            lines.append((status, said[-1]))

    assert [status for status, _ in lines] == [1, 1]
    assert all(str(tmp_path) not in line for _, line in lines)
    assert [line.count("could not load the model") for _, line in lines] == [1, 1]
    assert "blk.0.attn_q.weight" in lines[0][1]
    assert "n_embd = 128" in lines[1][1]
