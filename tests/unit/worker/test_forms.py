"""An answer that had to be JSON and is not is not told as one."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from llorch.errors import InvalidRequest
from llorch.wire.events import StopReason
from roles.worker.backend import Chunk
from roles.worker.inference.forms import as_json


async def spoken(*texts: str, stop: StopReason) -> AsyncGenerator[list[Chunk], None]:
    yield [Chunk(prefilled=1, prefill_total=1)]
    for number, text in enumerate(texts):
        yield [Chunk(text, number + 1)]
    yield [Chunk("", len(texts), stop)]


async def test_json_and_what_was_cut_off_of_it_go_through() -> None:
    whole = [chunk async for chunks in as_json(spoken('{"a"', ": 1}", stop="eos")) for chunk in chunks]
    cut = [chunk async for chunks in as_json(spoken('{"a"', stop="max_tokens")) for chunk in chunks]

    assert "".join(chunk.text for chunk in whole) == '{"a": 1}'
    assert cut[-1].stop == "max_tokens"


async def test_anything_else_ends_with_an_error() -> None:
    with pytest.raises(InvalidRequest, match="could not follow"):
        [chunks async for chunks in as_json(spoken("4Here", " it is", stop="eos"))]
