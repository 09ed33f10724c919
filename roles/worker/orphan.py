"""A worker that its pool has left: notices that nobody asks for its health any more, and ends when it has no job.

A pool asks each of its workers for its health again and again, with the worker's own token. That is all the contact
there is, and it works whatever address a pool has after a restart.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator

from aiohttp import web

from llorch import log
from llorch.edge import Handler, bearer

CALLBACK_TRIES = 5
CALLBACK_WAIT_S = 0.2
LONGEST_CALLBACK_WAIT_S = 5.0
CHECKS = 10
_log = log.get("worker.orphan")


class Contact:
    """When the pool was heard last.

    Args:
        token: What tells the pool from others.
        limit_s: How long a worker without jobs waits for a pool.
    """

    def __init__(self, token: str, limit_s: float) -> None:
        self._token = token.encode()
        self._limit_s = limit_s
        self._last_s = time.monotonic()

    @web.middleware
    async def listen(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Take a question for this worker's health, with its token, as a sign of its pool."""
        if request.path == "/health" and hmac.compare_digest(bearer(request).encode("utf-8", "replace"), self._token):
            self._last_s = time.monotonic()
        return await handler(request)

    async def watch(self, busy: Callable[[], bool]) -> None:
        """End this process, as SIGTERM does, when it is an orphan."""
        while True:
            silent_s = time.monotonic() - self._last_s
            if orphaned(silent_s, limit_s=self._limit_s, busy=busy()):
                break
            await asyncio.sleep(self._limit_s / CHECKS)
        _log.warning("orphaned", silent_s=round(silent_s))
        os.kill(os.getpid(), signal.SIGTERM)


def orphaned(silent_s: float, *, limit_s: float, busy: bool) -> bool:
    """Tell whether a worker that has heard nothing of its pool for *silent_s* may end."""
    return silent_s >= limit_s and not busy


def callback_waits(*, patient: bool) -> Iterator[float]:
    """Yield how long to wait after each try to reach the pool that has failed; the end is giving up.

    Args:
        patient: A pool comes back, or the worker is an orphan in the end; otherwise there are a few tries.
    """
    wait_s = CALLBACK_WAIT_S
    for tries in itertools.count(1):
        yield wait_s
        if not patient and tries >= CALLBACK_TRIES:
            return
        wait_s = min(wait_s * 1.5, LONGEST_CALLBACK_WAIT_S) if patient else wait_s
