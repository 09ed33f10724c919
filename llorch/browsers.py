"""What browsers ask of a server: who may use it from a web page, and the headers that tell them so (CORS)."""

from __future__ import annotations

import re
import socket
from dataclasses import replace

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from llorch import log
from llorch.errors import HostNotAllowed, OriginNotAllowed
from llorch.origins import Call, Guests, check

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
EXPOSED = "X-Job-Id, X-Correlation-Id, X-Request-Id, Request-Id, Location, Retry-After"
PREFLIGHT_S = 7200
"""How long a browser need not ask again; Chromium keeps an answer no longer than that."""
MOST_TOLD = 100
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]{1,4096}")
_ORIGIN = web.RequestKey("origin", str)

_log = log.get("browsers")


def guard(expected: Guests, *, token: str) -> Middleware:
    """Return what lets in only those web pages that may use the server, and answers their preflights.

    A preflight carries no token, and comes to addresses that know no OPTIONS: so this is asked before both. Each
    refused name is logged once, because a browser does not show its page what it was answered.

    Args:
        expected: Whom the server is there for.
        token: What it asks for; without one it can be reached from this machine alone.
    """
    here = socket.gethostname()
    expected = replace(expected, names=(*expected.names, here, here.partition(".")[0]))
    told: set[str] = set()

    @web.middleware
    async def let_in(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = request.headers
        origin, host = (",".join(headers.getall(name)) if name in headers else None for name in ("Origin", "Host"))
        try:
            check(Call(request.method, host, origin, headers.get("Sec-Fetch-Site")), expected, check_host=not token)
        except (HostNotAllowed, OriginNotAllowed) as refusal:
            if refusal.message not in told and len(told) < MOST_TOLD:
                told.add(refusal.message)
                _log.warning("page_refused", reason=refusal.message)
            raise
        if origin is not None:
            request[_ORIGIN] = origin
            if request.method == "OPTIONS" and "Access-Control-Request-Method" in headers:
                return _preflight(request)
        return await handler(request)

    return let_in


async def welcome(request: web.Request, response: web.StreamResponse) -> None:
    """Tell a browser that the page may read the answer, also one that is an error or a stream."""
    origin = request.get(_ORIGIN)
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = EXPOSED
        response.headers.add("Vary", "Origin")


def _preflight(request: web.Request) -> web.Response:
    headers = {"Access-Control-Allow-Methods": METHODS, "Access-Control-Max-Age": str(PREFLIGHT_S)}
    wanted = request.headers.get("Access-Control-Request-Headers", "")
    if _HEADER_NAMES.fullmatch(wanted):
        headers["Access-Control-Allow-Headers"] = wanted
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return web.Response(status=204, headers=headers)
