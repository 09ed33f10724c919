"""Calls of tools out of the JSON that a grammar made a model write: its pieces become pieces of calls. Pure."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from llorch.wire.conversation import FunctionDelta, ToolCallDelta
from roles.worker.backend import Chunk

NAME, ARGUMENTS = '{"name": ', ', "arguments": '


def new_id() -> str:
    """Return an id for a call."""
    return f"call_{uuid.uuid4().hex[:24]}"


class Calls:
    """Takes apart `[{"name": "f", "arguments": {…}}, …]`, written as `backend.grammar` has it, piece by piece.

    Args:
        new_id: Makes the id of a call.
    """

    def __init__(self, new_id: Callable[[], str] = new_id) -> None:
        self._new_id = new_id
        self._head = ""
        self._index = -1
        self._depth = 0
        self._in_text = self._escaped = False

    def feed(self, piece: str) -> list[ToolCallDelta]:
        """Take the next piece; return what it adds to the calls."""
        found: list[ToolCallDelta] = []
        while piece:
            if self._depth:
                length = self._arguments(piece)
                found.append(ToolCallDelta(self._index, FunctionDelta(arguments=piece[:length])))
                piece = piece[length:]
                continue
            self._head += piece
            begin, separator, rest = self._head.partition(ARGUMENTS)
            if not separator or not rest:
                break
            name = json.loads(begin[begin.index(NAME) + len(NAME) :])
            self._head, self._index = "", self._index + 1
            found.append(ToolCallDelta(self._index, FunctionDelta(name=name), self._new_id()))
            length = self._arguments(rest)
            found.append(ToolCallDelta(self._index, FunctionDelta(arguments=rest[:length])))
            piece = rest[length:]
        return found

    def _arguments(self, piece: str) -> int:
        """Return how much of *piece* belongs to the arguments that are being written; they are an object."""
        for position, character in enumerate(piece):
            if self._in_text:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._in_text = False
            elif character == '"':
                self._in_text = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    return position + 1
        return len(piece)


async def as_calls(steps: AsyncGenerator[list[Chunk], None]) -> AsyncGenerator[list[Chunk], None]:
    """Yield what an engine generates with its text as calls; their tokens are told with them."""
    calls = Calls()
    async with aclosing(steps):
        async for chunks in steps:
            yield [
                chunk._replace(text="", tool_calls=calls.feed(chunk.text)) if chunk.text else chunk for chunk in chunks
            ]
