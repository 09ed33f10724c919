"""What every engine promises the worker, asked of each engine that is installed here."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from itertools import pairwise
from math import exp
from pathlib import Path

import pytest

from llorch import errors
from llorch.wire.conversation import Message
from roles.worker.backend import REPLACEMENT, Prompt
from tests.support import engines
from tests.support.engines import Kind, copied, generate, running, unloaded, writing
from tests.support.models import TINY, Shape

WORDS = "bake kilo dumi lani"
SLOW = Shape(n_embd=256, n_layer=8, n_head=4, n_ff=704, ctx=2048)


@pytest.fixture(scope="module", params=engines.KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found = engines.KINDS[request.param]()
    if found.missing:
        pytest.skip(f"the engine {found.name} lacks {', '.join(found.missing)}")
    return found


@pytest.fixture(scope="module")
def model(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kind.make(tmp_path_factory.mktemp("tiny"), TINY, -40.0)


@pytest.fixture(scope="module")
def slow(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kind.make(tmp_path_factory.mktemp("slow"), SLOW, -40.0)


def lacks(kind: Kind, *needed: str) -> None:
    if lacking := kind.lacks.intersection(needed):
        pytest.skip(f"the engine {kind.name} has no {', '.join(lacking)}")


async def test_loading_tells_its_progress_and_what_the_model_is(kind: Kind, model: Path) -> None:
    told: list[float] = []

    async with unloaded(kind, model) as engine:
        facts = await engine.load(told.append)

    assert told == sorted(told)
    assert all(0 <= percent <= 100 for percent in told)
    assert facts.context_length == TINY.ctx
    assert facts.vocab_size == len(kind.said()[0])
    assert facts.quant_kind == "F32"
    assert facts.takes_tokens == ("ids" not in kind.lacks)
    assert (facts.memory_bytes > 0) == ("memory" not in kind.lacks)
    assert engine.name.startswith(kind.name)


@pytest.mark.parametrize("way", engines.WRONG)
async def test_a_bad_model_is_refused_with_one_line(kind: Kind, model: Path, tmp_path: Path, way: str) -> None:
    bad = kind.spoil[way](copied(model, tmp_path))

    async with unloaded(kind, bad) as engine:
        with pytest.raises(kind.wrong[way]) as refused:
            await engine.load(lambda _: None)

    assert refused.value.message
    assert "\n" not in refused.value.message


async def test_tokens_are_their_text_behind_the_token_that_begins_one(kind: Kind, model: Path) -> None:
    said, begin, _ = kind.said()

    async with running(kind, model) as engine:
        tokens = await engine.tokenize(Prompt(text=f"{WORDS} 😀 Ünïcödé\n"))
        chat = await engine.tokenize(Prompt(messages=[Message("user", "bake")]))
        behind = await engine.tokenize(Prompt(text=WORDS, continue_text="</s> kilo"))

    assert tokens[0] == begin
    assert b"".join(said[token] for token in tokens).decode() == f"{WORDS} 😀 Ünïcödé\n"
    assert b"".join(said[token] for token in chat).decode() == "<|user|>bake\n<|assistant|>"
    assert b"".join(said[token] for token in behind).decode() == f"{WORDS}</s> kilo"


async def test_a_text_ends_at_max_tokens_and_is_the_same_again(kind: Kind, model: Path) -> None:
    async with running(kind, model) as engine:
        first = await generate(kind, engine, WORDS, max_tokens=20)
        sampled = [await generate(kind, engine, WORDS, temperature=1.0, seed=seed) for seed in (7, 7, 8)]
        again = await generate(kind, engine, WORDS, max_tokens=20)

    assert first.stop == "max_tokens"
    assert first.chunks[-1].tokens_out == 20
    assert first.text == again.text
    assert sampled[0].text == sampled[1].text
    assert sampled[0].text != sampled[2].text


async def test_every_id_is_told_once_its_characters_are_whole(kind: Kind, model: Path) -> None:
    lacks(kind, "ids")
    said, _, _ = kind.said()

    async with running(kind, model) as engine:
        texts = [await generate(kind, engine, WORDS, max_tokens=90, temperature=1.0, seed=seed) for seed in range(3)]

    assert any(len(character.encode()) == 4 for text in texts for character in text.text)
    for text in texts:
        whole = text.text.replace(REPLACEMENT, "")
        assert b"".join(said[token] for token in text.ids).decode(errors="ignore") == whole


async def test_the_models_own_end_ends_the_text(kind: Kind, tmp_path: Path) -> None:
    path = kind.make(tmp_path, TINY, 6.0)
    _, _, end = kind.said()

    async with running(kind, path) as engine:
        text = await generate(kind, engine, WORDS, temperature=1.0, max_tokens=400)

    assert text.stop == "eos"
    assert text.chunks[-1].tokens_out < 400
    assert end not in text.ids[:-1]
    assert "</s>" not in text.text


async def test_a_text_goes_on_behind_its_ids_as_if_nothing_had_been(kind: Kind, model: Path) -> None:
    lacks(kind, "ids")
    async with running(kind, model) as engine:
        tokens = await engine.tokenize(Prompt(text=WORDS))
        whole = await generate(kind, engine, tokens, max_tokens=40)
        first = await generate(kind, engine, tokens, max_tokens=17)
        rest = await generate(kind, engine, [*tokens, *first.ids], max_tokens=40 - len(first.ids))

    assert first.text + rest.text == whole.text
    assert first.ids + rest.ids == whole.ids


async def test_a_text_goes_on_behind_what_was_written(kind: Kind, model: Path) -> None:
    async with running(kind, model) as engine:
        whole = await generate(kind, engine, f"{WORDS} kilo")
        rest = await generate(kind, engine, Prompt(text=WORDS, continue_text=" kilo"))

    assert rest.text == whole.text


async def test_several_at_once_get_what_each_gets_alone(kind: Kind, model: Path) -> None:
    lacks(kind, "slots")
    prompts = [WORDS, "lani", "bake kilo " * 30, "dumi dumi"]

    async with running(kind, model, slots=3) as engine:
        alone = [await generate(kind, engine, prompt, max_tokens=20) for prompt in prompts]
        async with asyncio.TaskGroup() as group:
            running_now = [group.create_task(generate(kind, engine, each, max_tokens=20)) for each in prompts]

    assert [task.result().text for task in running_now] == [text.text for text in alone]


async def test_whoever_leaves_while_a_text_is_written_frees_the_slot(kind: Kind, slow: Path) -> None:
    async with running(kind, slow) as engine:
        async with aclosing(await writing(kind, engine, WORDS, max_tokens=1500)) as steps:
            async for chunks in steps:
                if chunks[-1].tokens_out:
                    break
        await engine.let_go()
        after = await generate(kind, engine, WORDS, max_tokens=3)

    assert after.chunks[-1].tokens_out == 3


async def test_whoever_leaves_while_the_prompt_is_read_frees_the_slot(kind: Kind, slow: Path) -> None:
    lacks(kind, "cancel-prefill")
    long = "bake kilo dumi lani " * 250

    async with running(kind, slow, batch=32) as engine:
        tokens = await engine.tokenize(Prompt(text=long))
        async with aclosing(await writing(kind, engine, long, max_tokens=500)) as steps:
            first = await anext(steps)
        await engine.let_go()
        after = await generate(kind, engine, WORDS, max_tokens=3)

    assert 0 <= first[0].prefilled < first[0].prefill_total
    assert first[0].prefill_total == len(tokens)
    assert after.chunks[-1].tokens_out == 3


async def test_the_chances_of_tokens_are_told_likeliest_first(kind: Kind, model: Path) -> None:
    lacks(kind, "logprobs")
    said, _, _ = kind.said()

    async with running(kind, model) as engine:
        greedy = await generate(kind, engine, WORDS, logprobs=True, top_logprobs=20, max_tokens=12)
        sampled = await generate(kind, engine, WORDS, logprobs=True, temperature=1.0, max_tokens=12)

    # llama.cpp tells none of a token that leaves a character unfinished.
    counts = [0, *(chunk.tokens_out for chunk in greedy.chunks)]
    single = [
        chunk
        for chunk, (before, now) in zip(greedy.chunks, pairwise(counts), strict=True)
        if now == before + 1 and chunk.text and len(chunk.ids) <= 1
    ]
    found = [each for chunk in single for each in chunk.logprobs]
    assert len(single) > 5
    assert [bytes(each.bytes) for each in found] == [
        said[chunk.ids[0]] if chunk.ids else chunk.text.encode() for chunk in single
    ]
    for each in found:
        chances = [other.logprob for other in each.top_logprobs]
        assert len(chances) == 20
        assert all(one >= other for one, other in pairwise(chances))
        assert sum(map(exp, chances)) <= 1.0001
        assert each.bytes == each.top_logprobs[0].bytes
        assert each.logprob == pytest.approx(chances[0], abs=1e-4)
    assert all(each.logprob < 0 and not each.top_logprobs for chunk in sampled.chunks for each in chunk.logprobs)


async def test_bias_and_penalties_move_the_scores(kind: Kind, model: Path) -> None:
    lacks(kind, "bias")
    said, _, _ = engines.vocabulary()

    async with running(kind, model) as engine:
        tokens = await engine.tokenize(Prompt(text=WORDS))
        plain = await generate(kind, engine, WORDS, max_tokens=30)
        forced = await generate(kind, engine, WORDS, max_tokens=5, logit_bias={str(tokens[2]): 100.0})
        varied = await generate(kind, engine, WORDS, max_tokens=30, repetition_penalty=2.0, frequency_penalty=2.0)
        one = await generate(kind, engine, WORDS, max_tokens=30, temperature=1.0, top_k=1)

    assert forced.text == said[tokens[2]].decode() * 5
    assert len(set(varied.text)) > len(set(plain.text))
    assert one.text == plain.text


async def test_what_an_engine_cannot_do_it_says_before_anything_is_generated(kind: Kind, model: Path) -> None:
    async with running(kind, model) as engine:
        if "grammar" in kind.lacks:
            with pytest.raises(errors.InvalidRequest, match=kind.name):
                await engine.check(grammar='%llguidance {}\nstart: "a"\n', tools=False)
        else:
            await engine.check(grammar='%llguidance {}\nstart: "a"\n', tools=False)
        with pytest.raises(errors.InvalidRequest, match="tools"):
            await engine.check(grammar="", tools=True)


async def test_an_engine_that_is_killed_says_so_to_all_who_wait(kind: Kind, slow: Path) -> None:
    async with running(kind, slow) as engine:
        async with aclosing(await writing(kind, engine, WORDS, max_tokens=1500)) as steps:
            await anext(steps)
            os.kill(kind.pid(engine), signal.SIGKILL)
            with pytest.raises(errors.EngineFailed):
                async for _ in steps:
                    pass
        reason = await engine.died()
        with pytest.raises(errors.EngineFailed):
            await engine.tokenize(Prompt(text=WORDS))

    assert "signal 9" in reason


async def test_closing_twice_and_closing_what_never_was_loaded_is_harmless(kind: Kind, model: Path) -> None:
    async with unloaded(kind, model) as never:
        await never.close()
    async with running(kind, model) as engine:
        await engine.close()
        await engine.close()
