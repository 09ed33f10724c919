"""The aiohttp server side of every role: decode, answer, stream, and the middlewares around a handler.

Handlers decode with `read`, make one call, and answer with `reply` or `stream`. Errors become HTTP nowhere else.
"""

from __future__ import annotations

import asyncio
import hmac
import random
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal, TypeVar

import msgspec
import structlog
from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware

from llorch import browsers, errors, log
from llorch.metrics import HttpMetrics, exposition
from llorch.origins import ONLY_LOCAL, Guests
from llorch.wire import codec
from llorch.wire.errors import ErrorReply, to_reply

S = TypeVar("S", bound=msgspec.Struct)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Lifetime = Callable[[web.Application], AsyncIterator[None]]
Access = Literal["token", "open", "own"]

METRICS = web.AppKey("metrics", HttpMetrics)
DRAIN: web.AppKey[Callable[[], Awaitable[None]]] = web.AppKey("drain")
ADDRESS = web.AppKey("address", asyncio.Future[str])
"""Set by an app that must know its own URL; filled in by `llorch.serve` once it is bound."""
CORRELATION = re.compile(r"^[A-Za-z0-9-]{1,64}$")
CORRELATION_HEADER = "X-Correlation-Id"
_CORRELATION_ID = web.RequestKey("correlation_id", str)
MAX_ADDRESS = 256
BODY_SILENCE_S = 30.0
"""A body of which nothing comes for so long is given up."""
BODY_S = 600.0
"""The longest time that a body may take."""

_log = log.get("edge")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query or header parameter, as documentation tells of it; handlers check it themselves."""

    name: str
    schema: Mapping[str, object]
    place: Literal["query", "header"] = "query"
    description: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """How an address says what went wrong: the type of the body, and what makes it of an error and a correlation id."""

    body: type[msgspec.Struct]
    say: Callable[[errors.LlorchError, str], msgspec.Struct]
    id_header: str = CORRELATION_HEADER
    """Where another program's clients look for the correlation id of any answer."""


OWN_WORDS = Words(ErrorReply, to_reply)
_WORDS = web.RequestKey("words", Words)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a role: what serves it, who may call it, what goes in and out.

    `access`: `token` asks for the API token where one is configured, `open` never does, `own` leaves it to the
    handler. `replies` maps a status to the type of its body, None for none. `refusals` are statuses of errors that
    a caller must expect; those of every such address (a broken request, a wrong token or web page, an unknown id, a
    body that is too large or does not come) need not be listed. `events` says that the answer can be a stream of
    Server-Sent Events, `lines` that it can be one of lines of JSON. `form` are the fields of a form that comes instead
    of a body, with the schema of each. `words` are those of another program's API.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    replies: Mapping[int, type | None] = field(default_factory=dict)
    body: type | None = None
    parameters: Sequence[Parameter] = ()
    events: bool = False
    refusals: Sequence[int] = ()
    access: Access = "token"
    media_type: str = "application/json"
    lines: bool = False
    form: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    words: Words = OWN_WORDS


def create_app(
    endpoints: Sequence[Endpoint],
    lifetime: Lifetime,
    *,
    metrics: HttpMetrics,
    token: str = "",
    guests: Guests = ONLY_LOCAL,
    max_body_bytes: int = 1024 * 1024,
) -> web.Application:
    """Build a role's application.

    Args:
        endpoints: Its addresses; `GET /metrics` is added.
        lifetime: An async generator that opens everything, yields once, and closes everything.
        metrics: The role's registry.
        token: The API token; empty asks for none.
        guests: Whose web pages may use it, and its names.
        max_body_bytes: Larger bodies are answered with 413.
    """
    addresses = [*endpoints, Endpoint("GET", "/metrics", _metrics, "Prometheus metrics.", media_type="text/plain")]
    access = {(e.method, e.path): e.access for e in addresses}
    words = {e.handler: e.words for e in addresses}
    middlewares = [_outermost(words), browsers.guard(guests, token=token), _authenticate(token, access)]
    app = web.Application(middlewares=middlewares, client_max_size=max_body_bytes)
    app[METRICS] = metrics
    app.on_response_prepare.extend([_identify, browsers.welcome])
    app.cleanup_ctx.append(lifetime)
    app.add_routes([web.route(e.method, e.path, e.handler, expect_handler=_expected) for e in addresses])
    return app


async def read(request: web.Request, kind: type[S]) -> S:
    """Decode the body into *kind*; see `codec.decode` for what is refused.

    Raises:
        InvalidRequest: Also when it does not come as its headers say.
        BodyTooLarge: More than the app allows.
        RequestTimeout: It stopped coming, or comes too slowly.
    """
    return codec.decode(await _body(request), kind)


def reply(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with a JSON body."""
    return web.Response(body=codec.encode(body), status=status, content_type="application/json", headers=headers)


def reply_in_pieces(pieces: Sequence[bytes], *, headers: Mapping[str, str]) -> web.Response:
    """Answer with a body that is JSON already; the next piece waits until the client has taken most of the last."""

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    length = {"Content-Length": str(sum(map(len, pieces)))}
    return web.Response(body=body(), content_type="application/json", headers={**headers, **length})


async def stream(
    request: web.Request, blocks: AsyncIterator[bytes], *, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Answer with Server-Sent Events: each of *blocks* is one or more whole encoded events.

    Writing waits for the reader, so a slow one slows its own iterator and nobody else's. A reader that leaves ends
    the iterator, nothing more.
    """
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            **(headers or {}),
        }
    )
    try:
        await response.prepare(request)
        async for block in blocks:
            await response.write(block)
        await response.write_eof()
    except ConnectionResetError:
        _log.debug("reader_left", path=request.path)
    return response


def wants_events(request: web.Request) -> bool:
    """Tell whether the client accepts an event stream as the answer."""
    return "text/event-stream" in request.headers.get("Accept", "")


def correlation_id(request: web.BaseRequest) -> str:
    """Return the request's correlation id: the caller's when it is well formed, else a new UUID."""
    found: str | None = request.get(_CORRELATION_ID)
    if found is not None:
        return found
    given = request.headers.get(CORRELATION_HEADER, "")
    chosen = given if CORRELATION.match(given) else str(uuid.UUID(int=random.getrandbits(128), version=4))
    request[_CORRELATION_ID] = chosen
    return chosen


def error_response(error: errors.LlorchError, correlation: str, words: Words = OWN_WORDS) -> web.Response:
    """Render an error; the one place where errors become HTTP."""
    headers = {CORRELATION_HEADER: correlation}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return reply(words.say(error, correlation), status=error.status, headers=headers)


def bearer(request: web.Request) -> str:
    """Return the token of a request, empty when it has none: a bearer token, or what Anthropic's clients send."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else request.headers.get("X-Api-Key", "").strip()


def check_token(request: web.Request, expected: str) -> None:
    """Compare the request's bearer token with *expected*, in constant time.

    Raises:
        MissingToken: There is none.
        InvalidToken: It is another one.
    """
    given = bearer(request)
    if not given:
        raise errors.MissingToken("this address needs a bearer token; set LLORCH_API_TOKEN")
    if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode()):
        raise errors.InvalidToken("the bearer token is not valid here; check LLORCH_API_TOKEN")


def query(request: web.Request, *allowed: str) -> Mapping[str, str]:
    """Return the query parameters, refusing unknown and doubled ones.

    Raises:
        InvalidRequest: Names every parameter that is not one of *allowed*, or is given twice.
    """
    names = [name for name, _ in request.query.items()]  # keys() tells each name once
    problems = [codec.FieldProblem(n[:40], "unknown parameter") for n in dict.fromkeys(names) if n not in allowed]
    problems += [codec.FieldProblem(n, "given more than once") for n in allowed if names.count(n) > 1]
    if problems:
        raise codec.invalid(problems)
    return dict(request.query)


async def _body(request: web.Request) -> bytes:
    """Return the whole body. A client that stops in the middle, or drips, does not hold its connection for ever."""
    received = bytearray()
    deadline_s = asyncio.get_running_loop().time() + BODY_S
    try:
        while chunk := await _chunk(request.content, deadline_s):
            received += chunk
            if len(received) > request.client_max_size:
                raise errors.BodyTooLarge(
                    f"the body is larger than {request.client_max_size} bytes",
                    details={"limit_bytes": request.client_max_size},
                )
    except TimeoutError:
        raise errors.RequestTimeout("the body did not come in time; send the request again") from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise errors.InvalidRequest("the body did not come as the headers of the request say") from None
    return bytes(received)


async def _expected(request: web.Request) -> None:
    """Answer `Expect: 100-continue`; what else a client expects is ignored, as RFC 9110, 10.1.1 allows."""
    if request.headers["Expect"].lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


async def _chunk(content: StreamReader, deadline_s: float) -> bytes:
    if content.is_eof():
        return await content.readany()
    async with asyncio.timeout_at(min(deadline_s, asyncio.get_running_loop().time() + BODY_SILENCE_S)):
        return await content.readany()


def _outermost(words: Mapping[Handler, Words]) -> Middleware:
    """Errors, metrics: what every answer has."""

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        correlation = correlation_id(request)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(correlation_id=correlation):
            request[_WORDS] = spoken = words.get(request.match_info.handler, OWN_WORDS)
            response = await _answer(request, handler, correlation, spoken)
        metrics = request.app[METRICS]
        metrics.requests.labels(request.method if resource else "other", route, str(response.status)).inc()
        if not response.prepared:
            metrics.duration_ms.labels(route).observe((time.perf_counter() - started) * 1000)
        return response

    return outermost


async def _identify(request: web.Request, response: web.StreamResponse) -> None:
    """Tell the correlation id, last of all, so that streams have it, too."""
    named = (CORRELATION_HEADER, request.get(_WORDS, OWN_WORDS).id_header)
    response.headers.update(dict.fromkeys(named, correlation_id(request)))


async def _answer(request: web.Request, handler: Handler, correlation: str, words: Words) -> web.StreamResponse:
    try:
        return await handler(request)
    except errors.LlorchError as error:
        return error_response(error, correlation, words)
    except web.HTTPException as error:
        return _foreign(error, request, correlation)
    except Exception:  # noqa: BLE001 - a bug: the client gets no detail, the log gets the traceback
        _log.exception("request_failed", method=request.method, path=request.path[:MAX_ADDRESS])
        return error_response(errors.LlorchError("something is wrong on the server; see its log"), correlation, words)


def _foreign(error: web.HTTPException, request: web.Request, correlation: str) -> web.Response:
    """Turn aiohttp's own refusals into ours."""
    known: errors.LlorchError
    if error.status == HTTPStatus.NOT_FOUND:
        known = errors.NotFound("there is nothing at this address; see /openapi.json for what there is")
    elif isinstance(error, web.HTTPMethodNotAllowed):
        known = errors.MethodNotAllowed(f"{request.method} is not possible here; allowed: {error.headers['Allow']}")
    else:
        known = errors.InvalidRequest(error.reason)
        known.status = error.status
    response = error_response(known, correlation)
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _authenticate(token: str, access: Mapping[tuple[str, str], Access]) -> Middleware:
    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else ""
        method = "GET" if request.method == "HEAD" else request.method
        if token and access.get((method, path), "token") == "token":
            check_token(request, token)
        return await handler(request)

    return authenticate


async def _metrics(request: web.Request) -> web.Response:
    """GET /metrics."""
    body, content_type = exposition(request.app[METRICS].registry)
    return web.Response(body=body, headers={"Content-Type": content_type})
