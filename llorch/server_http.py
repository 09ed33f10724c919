"""The HTTP connection to a server that speaks OpenAI's API: requests, and answers that come bit by bit.

What such a server answers can quote a prompt, and what it is asked has a key: neither gets into a message or a log.
"""

from __future__ import annotations

import asyncio
import email.utils
import re
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

import msgspec

from llorch import errors
from llorch.server_facts import PROBES, Card, Cards, Facts, of_model, read
from llorch.tls import aiohttp, trusted
from llorch.wire.codec import UNREADABLE, encode

T = TypeVar("T")
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
PROBE_TIMEOUT_S = 5.0
MAX_ERROR_BYTES = 64 * 1024
MAX_PROBE_BYTES = 4 * 1024 * 1024
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The tokens of the longest text that a request can have take about half of it."""
MAX_LINE_BYTES = 8 * 1024 * 1024
NO_HEALTH = frozenset({401, 403, 404, 405, 501})
"""What a server answers that tells nothing of its health at that address, or not to everybody."""
_SAFE = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")


class Away(errors.EngineFailed):
    """It does not answer; `refused` tells that nothing listens there."""

    refused = False


class Refusal(errors.EngineFailed):
    """It answered with an error.

    Attributes:
        http_status: Its status.
        sign: Its own word for what is wrong, where that can be no prompt.
    """

    http_status = 0
    sign = ""


class ServerHttp:
    """Speaks to one server. Open it with `async with`.

    Args:
        url: Its base URL, with or without `/v1`.
        key: What it asks for; empty sends none.
        what: What it is, for messages.
    """

    def __init__(self, url: str, *, key: str = "", what: str = "the server") -> None:
        self.root, self._base = addresses(url)
        self.what = what
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Be able to connect: anew for each request, for a kept connection can be closed just as it is used again."""
        secure = self.root.startswith("https:")
        self._session = aiohttp.ClientSession(
            headers={"User-Agent": "llorch", "Content-Type": "application/json", **self._headers},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=trusted() if secure else True),
            read_bufsize=2**18,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def cards(self) -> list[Card]:
        """Return the models that it lists.

        Raises:
            Away, Refusal: It does not.
        """
        return (await self.ask("GET", "/models", None, Cards, timeout_s=PROBE_TIMEOUT_S)).data

    async def facts(self, model: str) -> Facts:
        """Return what it tells of itself.

        Raises:
            Away, Refusal: It does not answer as OpenAI's API does.
            ModelNotFound: It has no such model.
        """
        card = of_model(await self.cards(), model)
        if card is None:
            raise errors.ModelNotFound(f"{self.what} does not list the model any more, or never did")
        answers: dict[str, bytes] = {}
        for path in PROBES:
            try:
                answers[path] = await self.get(self.root + path)
            except (Away, Refusal):
                continue
        return read(card, answers)

    async def healthy(self) -> bool:
        """Tell whether it says that it takes requests; one without an address for that, or none for us, does."""
        try:
            await self.get(f"{self.root}/health")
        except Refusal as refusal:
            return refusal.http_status in NO_HEALTH
        return True

    async def ask(self, method: str, path: str, body: object, kind: type[T], *, timeout_s: float) -> T:
        """Return an answer of OpenAI's API, or with a whole URL as *path* of another address, in one piece.

        Raises:
            Refusal: It answered with an error, or with something else than was asked for.
            Away: It does not answer.
        """
        with self._translated():
            async with asyncio.timeout(timeout_s):
                response = await self._open(method, path, body)
                try:
                    return msgspec.json.decode(await self._whole(response, MAX_ANSWER_BYTES), type=kind)
                except UNREADABLE:
                    raise self._refusal(0, "it gave an answer that is not OpenAI's") from None
                finally:
                    response.close()

    async def get(self, url: str) -> bytes:
        """Return what is at an address; raises as `ask` does."""
        with self._translated():
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                response = await self._open("GET", url, None)
                try:
                    return await self._whole(response, MAX_PROBE_BYTES)
                finally:
                    response.close()

    async def lines(self, path: str, body: object) -> AsyncGenerator[list[bytes], None]:
        """Yield the JSON texts of an answer that comes bit by bit, all that have come; close it to have it stopped.

        Raises as `ask` does.
        """
        lines = Lines()
        with self._translated():
            response = await self._open("POST", path, body)
            try:
                while data := await response.content.readany():
                    found = [
                        line.partition(b":")[2].strip()
                        for line in lines.feed(data)
                        if line.startswith((b"data:", b"error:"))
                    ]
                    if found:
                        yield found
            except LineTooLong:
                raise self._refusal(0, f"it sent a line of more than {MAX_LINE_BYTES} bytes") from None
            finally:
                response.close()

    async def _open(self, method: str, path: str, body: object) -> aiohttp.ClientResponse:
        if self._session is None or self._session.closed:
            raise errors.EngineFailed("the engine is not loaded")
        url = path if "://" in path else self._base + path
        data = None if body is None else encode(body)
        response = await self._session.request(method, url, data=data, allow_redirects=False)
        if response.status == 200:
            return response
        try:
            text = await response.content.read(MAX_ERROR_BYTES)
        finally:
            response.close()
        after = response.headers.get("Retry-After", "")
        refusal = self._refusal(response.status, f"it answered with status {response.status}", sign_of(text))
        refusal.retry_after_s = retry_after_s(after, now_s=time.time())
        raise refusal

    async def _whole(self, response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while data := await response.content.readany():
            parts.append(data)
            size += len(data)
            if size > limit_bytes:
                raise self._refusal(0, f"it gave an answer of more than {limit_bytes} bytes")
        return b"".join(parts)

    def _refusal(self, status: int, problem: str, sign: str = "") -> Refusal:
        found = Refusal(f"{self.what}: {problem}" + (f" ({sign})" if sign else ""))
        found.http_status, found.sign = status, sign
        return found

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except aiohttp.ClientConnectorError as error:
            away = Away(f"{self.what} cannot be reached at {self.root}")
            away.refused = isinstance(error.os_error, ConnectionRefusedError)
            raise away from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Away(f"{self.what} does not answer any more") from error


class LineTooLong(ValueError):
    """A line is longer than `MAX_LINE_BYTES`."""


class Lines:
    """Cuts bytes into lines. Pure; bytes are looked at once, however small the pieces they come in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the lines that are now whole, without their ends.

        Raises:
            LineTooLong: One of them is, or the beginning of the next.
        """
        first, *rest = data.split(b"\n")
        self._parts.append(first)
        self._size += len(first)
        if self._size > MAX_LINE_BYTES or any(len(line) > MAX_LINE_BYTES for line in rest):
            raise LineTooLong
        if not rest:
            return []
        lines = [b"".join(self._parts), *rest[:-1]]
        self._parts, self._size = [rest[-1]], len(rest[-1])
        return lines


def addresses(url: str) -> tuple[str, str]:
    """Return where a server's own addresses begin, and where those of OpenAI's API do. Pure."""
    base = url.rstrip("/")
    return (base.removesuffix("/v1"), base) if base.endswith("/v1") else (base, f"{base}/v1")


def sign_of(text: bytes) -> str:
    """Return the type or code of an error; nothing that could be a sentence, for that may quote the request. Pure."""
    try:
        found = msgspec.json.decode(text)
    except UNREADABLE:
        return ""
    error = found.get("error", found) if isinstance(found, dict) else None
    words = [error.get("type"), error.get("code")] if isinstance(error, dict) else []
    return next((word for word in words if isinstance(word, str) and _SAFE.fullmatch(word)), "")


def retry_after_s(header: str, *, now_s: float) -> int | None:
    """Return how many seconds a `Retry-After` asks for, as a number or until a date; None where it is neither. Pure."""
    if header.isascii() and header.isdigit():
        return int(header[:9])
    try:
        until = email.utils.parsedate_to_datetime(header)
        return max(0, round(until.timestamp() - now_s))
    except (ValueError, OverflowError):  # also of a date that is one and that no clock reaches
        return None
