"""Prompts that the torch engine's tokeniser makes nothing of: each costs its own request one line, and no other."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from llorch.errors import InvalidRequest
from roles.worker.backend import Prompt
from roles.worker.backend.torch_engine import Torch
from tests.support import checkpoints, engines
from tests.support.engines import generate

NOTHING = {"type": "Strip", "strip_left": True, "strip_right": True}
GIVES_UP = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


async def test_a_prompt_without_tokens_and_one_that_cannot_be_encoded_end_no_other_text(tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path)
    path = folder / "tokenizer.json"
    told = json.loads(path.read_text()) | {"post_processor": None, "normalizer": NOTHING, "pre_tokenizer": GIVES_UP}
    path.write_text(json.dumps(told))

    async with asyncio.TaskGroup() as tasks:
        engine = Torch(tasks, folder, slots=2, threads=1)
        await engine.load(lambda _: None)
        alone = await generate(engines.torch(), engine, [300, 301], max_tokens=60)
        beside = tasks.create_task(generate(engines.torch(), engine, [300, 301], max_tokens=60))
        for prompt in (Prompt(text=" "), Prompt(text="bake", continue_text="a" * 40 + "b")):
            with pytest.raises(InvalidRequest, match="the request is not valid: "):
                await engine.tokenize(prompt)
        with pytest.raises(InvalidRequest, match="no tokens"):
            await generate(engines.torch(), engine, [])
        assert (await beside).text == alone.text
        await engine.close()
