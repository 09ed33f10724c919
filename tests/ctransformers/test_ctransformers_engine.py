"""The whole engine ctransformers beside llama.cpp, with bad models, and with a library that crashes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("ctransformers", reason="the extra ctransformers is not installed")

from llorch import errors
from llorch.wire.conversation import Message
from roles.worker.backend import Engine, Prompt
from roles.worker.backend.ctransformers_engine import CTransformers
from roles.worker.backend.llamacpp import LlamaCpp
from tests.support import engines, models, old_models
from tests.support.engines import PATIENCE_S, generate

KIND = engines.ctransformers()
HAIKU = Path(__file__).parents[2] / "llorch" / "assets" / "haiku.gguf"
WORDS = ("rain", "winter", "an old friend", "the sea", "42")


@contextlib.asynccontextmanager
async def loaded(engine: type[LlamaCpp | CTransformers], path: Path) -> AsyncIterator[Engine]:
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        running = engine(tasks, path, threads=1, ctx=512)
        try:
            await running.load(lambda _: None)
            yield running
        finally:
            await running.close()


async def test_an_old_file_says_word_for_word_what_the_same_model_says_in_llamacpp(tmp_path: Path) -> None:
    new, old = old_models.plain_gguf(HAIKU, tmp_path / "haiku.gguf"), tmp_path / "haiku.bin"
    old.write_bytes(old_models.from_gguf(HAIKU))
    old.with_suffix(".jinja").write_text(old_models.template_of(HAIKU))
    prompts = [Prompt(messages=[Message("user", f"Write a haiku about {word}")]) for word in WORDS]
    told: list[list[tuple[int, str, str | None]]] = []

    for of, path in ((LlamaCpp, new), (CTransformers, old)):
        async with loaded(of, path) as engine:
            tokens = [await engine.tokenize(prompt) for prompt in prompts]
            texts = [await generate(KIND, engine, each, max_tokens=60) for each in tokens]
        told.append([(len(each), text.text, text.stop) for each, text in zip(tokens, texts, strict=True)])

    assert all(stop == "eos" for _, _, stop in told[0])
    assert told[1] == told[0]


async def test_a_llama_in_gguf_runs_with_its_own_template(tmp_path: Path) -> None:
    path = models.make(tmp_path / "model.gguf", sentencepiece=True)
    prompts = [Prompt(text="bake kilo"), Prompt(messages=[Message("user", "bake")])]
    told = []
    for kind in (LlamaCpp, CTransformers):
        async with loaded(kind, path) as engine:
            tokens = [await engine.tokenize(prompt) for prompt in prompts]
            told.append((tokens, (await generate(KIND, engine, tokens[0], max_tokens=30)).text))

    assert told[0] == told[1]


async def test_the_demo_model_in_gguf_is_refused_with_the_engine_that_reads_it() -> None:
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        engine = CTransformers(tasks, HAIKU)
        with pytest.raises(errors.ModelIncompatible, match="SentencePiece's in GGUF files; take the engine llamacpp"):
            await engine.load(lambda _: None)
        await engine.close()


async def test_messages_without_a_template_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(old_models.llama())

    async with loaded(CTransformers, path) as engine:
        with pytest.raises(errors.InvalidRequest, match="no chat template; give a prompt"):
            await engine.tokenize(Prompt(messages=[Message("user", "bake")]))
        assert await engine.tokenize(Prompt(text="bake"))


async def test_a_library_that_crashes_ends_its_own_process_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(old_models.llama().replace(b"\1\0\0\0Q", b"\1\0\0\0R", 1))  # no token for this letter

    async with loaded(CTransformers, path) as engine:
        with pytest.raises(errors.EngineFailed):
            await engine.tokenize(Prompt(text="Q"))
        reason = await engine.died()

    assert "signal 6" in reason
