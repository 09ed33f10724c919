"""The HTTP connection to the server inside the engine process: requests, and answers that come bit by bit.

Strategy: one connection a request, because a kept-alive one fails now and then; closing it stops the engine between
two batches or tokens.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import TypeVar

import aiohttp
import msgspec

from llorch import errors
from llorch.wire.codec import encode

T = TypeVar("T")
URL = "http://engine"


class EngineHttp:
    """Asks one engine process. `working` counts the slots of its that may be at work on what is still wanted."""

    def __init__(self) -> None:
        self.working = 0
        self._session: aiohttp.ClientSession | None = None

    def open(self, socket: str, key: str) -> None:
        """Use the server that listens on the Unix socket *socket* and asks for *key*."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(socket, force_close=True, limit=0),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def close(self) -> None:
        """Close every connection; safe to call twice."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, method: str, path: str, body: object, kind: type[T], *, slots: int = 0) -> T:
        """Return an answer that comes in one piece, and may take so many *slots* of the engine.

        Raises:
            Refused: The engine answered with an error.
            EngineFailed: It does not answer.
        """
        self.working += slots
        try:
            with _translated():
                response = await self._open(method, path, body)
                try:
                    return msgspec.json.decode(await response.read(), type=kind)
                finally:
                    response.close()
        finally:
            self.working -= slots

    async def lines(self, path: str, body: object) -> AsyncGenerator[list[bytes], None]:
        """Yield the lines with data of an answer that comes bit by bit, all that have come; raises as `ask` does."""
        rest, began = b"", 0
        with _translated():
            response = await self._open("POST", path, body)
            try:
                while data := await response.content.readany():
                    self.working += 1 - began
                    began = 1
                    lines = (rest + data).split(b"\n\n")
                    rest = lines.pop()
                    yield [line for line in lines if line.startswith((b"data: {", b"error: "))]
            finally:
                self.working -= began
                response.close()

    async def _open(self, method: str, path: str, body: object) -> aiohttp.ClientResponse:
        if self._session is None or self._session.closed:
            raise errors.EngineFailed("the engine is not loaded")
        response = await self._session.request(method, URL + path, data=None if body is None else encode(body))
        if response.status != 200:
            response.close()
            raise Refused(f"the engine refused the request with status {response.status}")
        return response


class Refused(errors.EngineFailed):
    """The engine answered with an error; its text can quote the request, so it goes nowhere."""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        raise errors.EngineFailed("the engine process does not answer any more") from error
