"""Batches through OpenAI's own library: their files, how they end, and what comes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI
from openai.types import Batch

from tests.support.orchestrating import REF, System

FINAL = {"completed", "failed", "expired", "cancelled"}


def request(number: int, **body: object) -> dict[str, Any]:
    """Return a line that asks for two tokens."""
    wanted = {"model": REF, "prompt": f"p{number}", "max_tokens": 2, **body}
    return {"custom_id": f"line {number}", "method": "POST", "url": "/v1/completions", "body": wanted}


def jsonl(lines: Sequence[object]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@asynccontextmanager
async def library(system: System) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{system.url}/v1", api_key="unused", max_retries=0, _strict_response_validation=True
    ) as ai:
        yield ai


async def begun(ai: AsyncOpenAI, content: bytes, endpoint: Any = "/v1/completions") -> Batch:  # noqa: ANN401 - a long Literal
    file = await ai.files.create(file=("in.jsonl", content), purpose="batch")
    return await ai.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"for": "test"}
    )


async def ended(ai: AsyncOpenAI, batch: Batch) -> Batch:
    async with asyncio.timeout(30):
        while (found := await ai.batches.retrieve(batch.id)).status not in FINAL:
            await asyncio.sleep(0.02)
    return found


async def results(ai: AsyncOpenAI, file_id: str | None) -> dict[str, Any]:
    """Return the lines of an output or error file by their custom_id, each of which must be there once."""
    if file_id is None:
        return {}
    text = (await ai.files.content(file_id)).text
    lines = [json.loads(line) for line in text.splitlines()]
    found = {line["custom_id"]: line for line in lines}
    assert len(found) == len(lines)
    return found


async def answered(ai: AsyncOpenAI, batch: Batch, count: int) -> None:
    """Return when so many lines have an answer."""
    async with asyncio.timeout(30):
        while True:
            counts = (await ai.batches.retrieve(batch.id)).request_counts
            if counts is not None and counts.completed >= count:
                return
            await asyncio.sleep(0.02)
