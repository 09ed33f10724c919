"""The aiohttp client side: send a body, follow a stream; aiohttp's own errors end here."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Self, TypeVar

from llorch import errors
from llorch.sse import Event, EventTooLarge, Splitter, parse_block
from llorch.tls import aiohttp, trusted
from llorch.wire.codec import UNREADABLE, decode_reply, encode
from llorch.wire.errors import to_error

T = TypeVar("T")
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
SILENCE_TIMEOUT_S = 60.0
MAX_RESUME_WAIT_S = 5.0


class Client:
    """Speaks to one llorch process. Open it with `async with`.

    Args:
        url: Its base URL.
        token: The bearer token it asks for; empty sends none.
        what: What it is, for messages: "the orchestrator", "the pool".
        correlation_id: Sent with every request when given.
    """

    def __init__(self, url: str, *, token: str = "", what: str = "the server", correlation_id: str = "") -> None:
        self.url = url.rstrip("/")
        self.what = what
        headers = {"User-Agent": "llorch"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if correlation_id:
            headers["X-Correlation-Id"] = correlation_id
        self._headers = headers
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S)
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0, ssl=trusted() if self.url.startswith("https:") else True),
            read_bufsize=2**18,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def send(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> T:
        """Send a request and decode its answer.

        Raises:
            RemoteError: It answered with an error; the code is its own.
            Unreachable: It does not answer, or not in its own protocol.
        """
        async with self.request(
            method, path, body=body, params=params, headers=headers, timeout_s=timeout_s
        ) as response:
            with self._translated():
                answer = await response.read()
        try:
            return decode_reply(answer, kind)
        except UNREADABLE as error:
            raise errors.Unreachable(
                f"{self.what} at {self.url} gave an answer that is not llorch's: {error}"
            ) from None

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> _Request:
        """Open a request whose answer is read by the caller; `async with` closes it."""
        return _Request(self, method, path, body=body, params=params, headers=headers, timeout_s=timeout_s)

    async def events(
        self,
        path: str,
        *,
        method: str = "GET",
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of one stream, once.

        Raises:
            RemoteError: Refused.
            Unreachable: No connection, or one that broke before the stream's end.
            TimeoutExceeded: Nothing came for `SILENCE_TIMEOUT_S`, not even a comment.
        """
        async for blocks in self.blocks(path, method=method, body=body, headers=headers):
            for block in blocks:
                event = parse_block(block)
                if event is not None:
                    yield event

    async def blocks(
        self,
        path: str,
        *,
        method: str = "GET",
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[list[bytes], None]:
        """Yield the raw event blocks of one stream, as many at a time as have come; raises as `events` does."""
        sent = {"Accept": "text/event-stream", **(headers or {})}
        async with self.request(method, path, body=body, headers=sent) as response:
            splitter = Splitter()
            while data := await self._next_chunk(response):
                try:
                    blocks = splitter.feed(data)
                except EventTooLarge:
                    raise errors.Unreachable(f"{self.what} at {self.url} sent an event without an end") from None
                yield blocks

    async def file(
        self, path: str, *, start: int = 0, params: Mapping[str, str] | None = None
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield a file from byte *start* on, in pieces, each with its position; raises as `events` does.

        The first position is 0 where the server sends the whole file all the same.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        async with self.request("GET", path, params=params, headers=headers) as response:
            position = start if response.status == HTTPStatus.PARTIAL_CONTENT else 0
            while data := await self._next_chunk(response):
                yield position, data
                position += len(data)

    async def follow(self, path: str, *, after: str = "", patience_s: float = 600.0) -> AsyncGenerator[Event, None]:
        """Yield a job's events to its terminal one, resuming where a connection was lost.

        Args:
            path: The job's events URL.
            after: The id of the last event already seen.
            patience_s: How long a server that does not answer is asked again.

        Raises:
            RemoteError: Refused.
            Unreachable: Out of patience.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + patience_s
        wait_s = 0.1
        while True:
            headers = {"Last-Event-ID": after} if after else {}
            try:
                async for event in self.events(path, headers=headers):
                    after = event.id or after
                    give_up, wait_s = loop.time() + patience_s, 0.1
                    yield event
                    if event.kind in {"end", "error"}:
                        return
            except (errors.Unreachable, errors.TimeoutExceeded):
                if loop.time() >= give_up:
                    raise
            except errors.RemoteError as error:
                if not error.retriable or loop.time() >= give_up:
                    raise
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, MAX_RESUME_WAIT_S)

    async def _next_chunk(self, response: aiohttp.ClientResponse) -> bytes:
        with self._translated():
            try:
                async with asyncio.timeout(SILENCE_TIMEOUT_S):
                    return await response.content.readany()
            except TimeoutError:
                silence = f"{self.what} at {self.url} has been silent for {SILENCE_TIMEOUT_S:.0f} s"
                raise errors.TimeoutExceeded(silence, code="STALLED") from None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            reason = "it did not answer in time" if isinstance(error, TimeoutError) else _reason(error)
            refused = isinstance(error, aiohttp.ClientConnectorError) and isinstance(
                error.os_error, ConnectionRefusedError
            )
            kind = errors.Refused if refused else errors.Unreachable
            raise kind(f"{self.what} at {self.url} cannot be reached: {reason}") from error
        except RuntimeError as error:  # aiohttp's word for a session that was closed under its user
            if self._session is None or not self._session.closed:
                raise
            raise errors.Unreachable(f"{self.what} at {self.url} is not there any more") from error


class _Request:
    """One request: raises on an error answer, closes on exit."""

    def __init__(  # noqa: PLR0913 - the parts of a request
        self,
        client: Client,
        method: str,
        path: str,
        *,
        body: object,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        timeout_s: float | None,
    ) -> None:
        self._client = client
        self._method = method
        self._path = path
        self._params = params
        self._headers = dict(headers or {})
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=CONNECT_TIMEOUT_S)
        self._data: bytes | None = None
        if body is not None:
            self._data = body if isinstance(body, bytes) else encode(body)
            self._headers.setdefault("Content-Type", "application/json")
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> aiohttp.ClientResponse:
        session = self._client._session  # noqa: SLF001 - the two classes are one
        if session is None:
            raise RuntimeError("the client is not open; use async with")
        if session.closed:  # by who gave it up, while this caller still held it
            raise errors.Unreachable(f"{self._client.what} at {self._client.url} is not there any more")
        with self._client._translated():  # noqa: SLF001
            self._response = await session.request(
                self._method,
                self._client.url + self._path,
                data=self._data,
                params=self._params,
                headers=self._headers,
                timeout=self._timeout,
            )
            if self._response.status >= 400:
                raise await _refusal(self._response, self._client)
        return self._response

    async def __aexit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()


async def _refusal(response: aiohttp.ClientResponse, client: Client) -> errors.RemoteError:
    retry_after = response.headers.get("Retry-After", "")
    try:
        body = await response.read()
    finally:
        response.close()
    error = to_error(body, response.status, retry_after_s=int(retry_after) if retry_after.isdigit() else None)
    if error.code == errors.NotFound.code:
        error.message = f"{client.url} is not {client.what}, or one of another version: it has no {response.url.path}"
    return error


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or "it does not match"
        return f"its certificate is not trusted here ({why}); SSL_CERT_FILE may name a file of authorities to trust"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "it does not speak TLS as expected; is the URL https where the server is not?"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno  # its text is asyncio's, with the address once more
        if isinstance(error.os_error, socket.gaierror):
            unknown = number in {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)}
            return "there is no host of that name" if unknown else "its name cannot be looked up now"
        return os.strerror(number).lower() if number and number > 0 else "the connection failed"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    return str(error) or type(error).__name__
