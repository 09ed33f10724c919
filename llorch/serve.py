"""Run one or several apps until told to stop: signals, the ready line, drain, cleanup, exit status."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from llorch import errors, log
from llorch.config import is_loopback, near_host
from llorch.edge import ADDRESS, DRAIN, correlation_id, error_response
from llorch.leftovers import swept
from llorch.program import Echo, die_with_launcher
from llorch.supervision import READY, STOPPING, supervised

SHUTDOWN_S = 2.0
KEEPALIVE_S = 75.0
"""How long a connection may go without a whole request head: before its first one, and after each answer."""
MAX_FILES = 65_536
MAC_FILES = 10_240
"""OPEN_MAX: above it, macOS may refuse a limit rather than lower it; see its setrlimit(2)."""
_log = log.get("serve")


Build = Callable[[Sequence[str]], web.Application]
"""Builds an app that must know the URLs of the sites before it."""


@dataclass(frozen=True, slots=True)
class Site:
    """An app (or what builds it, once the sites before it are bound) and its address; port 0 takes a free one."""

    app: web.Application | Build
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Served:
    """An app that is bound and answers."""

    app: web.Application
    url: str


def run(main: Callable[[], Awaitable[int]]) -> int:
    """Run *main* on uvloop where there is one, else on asyncio's own loop; return its exit status.

    Takes as many open files as the system lets it have: each connection is one.
    """
    _open_files()
    die_with_launcher()

    async def started() -> int:
        return await main()

    try:
        import uvloop
    except ImportError:
        return asyncio.run(started())
    return uvloop.run(started())


def _open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in file_limits(soft, hard):
        with contextlib.suppress(OSError, ValueError):  # then what there is has to do
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return


def file_limits(soft: int, hard: int) -> list[int]:
    """Return the limits of open files that are better than *soft* and no more than *hard*, best first. Pure."""

    def at_most(wanted: int) -> int:
        return wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)

    if soft == resource.RLIM_INFINITY:
        return []
    return [wanted for wanted in (at_most(MAX_FILES), at_most(MAC_FILES)) if wanted > soft]


async def serve(sites: Sequence[Site], *, token: str = "") -> int:
    """Serve until SIGTERM or SIGINT, then drain; return the exit status.

    The first line on stdout is the first app's URL, alone, once everything answers; a supervisor such as systemd is
    told then, too. A second signal ends at once.

    Raises:
        InvalidConfiguration: An address that others can reach, without a token; or one that cannot be bound.
    """
    for site in sites:
        check_exposure(site.host, token)
    stop = StopSignal()
    stop.install()
    with supervised() as say:
        async with all_running(sites) as served, swept():
            with contextlib.suppress(OSError):  # nobody has to read it
                print(served[0].url, flush=True)  # noqa: T201 - the ready line
            say(f"{READY}\nSTATUS=Listening on {served[0].url}")
            await stop.wait()
            say(STOPPING)
            _log.info("draining", signal=stop.name)
            await drain(served)
    return 0


@contextlib.asynccontextmanager
async def all_running(sites: Sequence[Site]) -> AsyncIterator[Sequence[Served]]:
    """Serve several apps for the length of the block: bound in order, ended in reverse; raises as `running` does."""
    served: list[Served] = []
    async with contextlib.AsyncExitStack() as stack:
        for site in sites:
            app = site.app if isinstance(site.app, web.Application) else site.app([s.url for s in served])
            url = await stack.enter_async_context(running(app, site.host, site.port))
            served.append(Served(app, url))
        yield served


async def drain(served: Sequence[Served]) -> None:
    """Let each app finish what it has begun, within its own drain time, in order."""
    for one in served:
        if DRAIN in one.app:
            await one.app[DRAIN]()


class StopSignal:
    """SIGTERM and SIGINT as an awaitable; the second one ends the process at once."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self._echo = Echo()
        self.name = ""

    def install(self) -> None:
        """Take over both signals."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_by, number)

    async def wait(self) -> None:
        """Return when the first signal has come."""
        await self._told.wait()

    def _told_by(self, number: signal.Signals) -> None:
        if self._echo.heard(number):
            return
        if self._told.is_set():
            os._exit(128 + number)
        self.name = number.name
        self._told.set()


@contextlib.asynccontextmanager
async def running(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serve one app for the length of the block; yield its URL.

    Raises:
        InvalidConfiguration: The address is taken or is not this machine's.
        LlorchError: The app cannot go on, for a reason that it expects.
    """
    runner = _Runner(
        app,
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=SHUTDOWN_S,
        keepalive_timeout=KEEPALIVE_S,
    )
    try:
        await runner.setup()
        tcp = web.TCPSite(runner, host, port, backlog=1024)
        try:
            await tcp.start()
        except OSError as error:
            raise _cannot_bind(f"{host}:{port}", error) from None
        url = f"http://{near_host(host)}:{runner.addresses[0][1]}"
        if ADDRESS in app:
            app[ADDRESS].set_result(url)
        yield url
    finally:
        with _one_reason():
            await runner.cleanup()


@contextlib.contextmanager
def _one_reason() -> Iterator[None]:
    """Raise the expected error that ended an app's task group, instead of the group around it."""
    try:
        yield
    except BaseExceptionGroup as group:
        expected, others = group.split(errors.LlorchError)
        if expected is None or others is not None:
            raise
        reason: BaseException = expected
        while isinstance(reason, BaseExceptionGroup):
            reason = reason.exceptions[0]
        raise reason from None


def check_exposure(host: str, token: str) -> None:
    """Refuse an address that others can reach when no token protects it.

    Raises:
        InvalidConfiguration: With what to do.
    """
    if not token and not is_loopback(host):
        raise errors.InvalidConfiguration(
            f"refusing to listen on {host} without a token, because anyone on the network could use this machine; "
            "set LLORCH_API_TOKEN or [auth] token_file, or bind 127.0.0.1"
        )


def _cannot_bind(where: str, error: OSError) -> errors.InvalidConfiguration:
    if error.errno == errno.EADDRINUSE:
        return errors.InvalidConfiguration(f"{where} is taken by another process; stop it or choose another --port")
    if error.errno == errno.EACCES:
        return errors.InvalidConfiguration(f"{where}: no permission to listen there; choose a --port above 1023")
    return errors.InvalidConfiguration(f"cannot listen on {where}: {error.strerror or error}")


class _Handler(RequestHandler):
    """aiohttp's connection handler, answering what never reaches an app (a broken request) in our error form."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that could not be parsed, and close the connection."""
        if status >= 500 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        error = errors.InvalidRequest("this is not an HTTP request that can be understood")
        error.status = status
        response = error_response(error, correlation_id(request))
        response.force_close()
        return response

    def log_exception(self, *args: object, **more: object) -> None:
        """Log a bug; a client that did not send what it announced is none."""
        if not isinstance(more.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **more)


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Handler(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,  # noqa: SLF001 - the same server with another connection handler
            **made._kwargs,  # noqa: SLF001
        )
