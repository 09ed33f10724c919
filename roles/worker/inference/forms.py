"""A last look at an answer that had to be JSON: the engine can lose a grammar that costs it too much on the way."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from llorch.errors import InvalidRequest
from roles.worker.backend import Chunk


async def as_json(steps: AsyncGenerator[list[Chunk], None]) -> AsyncGenerator[list[Chunk], None]:
    """Yield what an engine generates.

    llama.cpp goes on without a grammar whose next step takes too much work, and says so in its log alone.

    Raises:
        InvalidRequest: The model ended its answer, and it is no JSON.
    """
    texts: list[str] = []
    async with aclosing(steps):
        async for chunks in steps:
            texts += (chunk.text for chunk in chunks)
            if chunks[-1].stop == "eos" and not _is_json("".join(texts)):
                raise InvalidRequest("the engine could not follow the JSON schema to the answer's end; simplify it")
            yield chunks


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
