"""Asking an orchestrator that is away again, until it is back or patience ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from llorch.errors import Draining, LlorchError, RemoteError, Unreachable

T = TypeVar("T")
FIRST_WAIT_S = 0.1
MAX_WAIT_S = 2.0


def away(error: LlorchError) -> bool:
    """Tell whether *error* means that the orchestrator is gone or going, and may come back."""
    return isinstance(error, Unreachable) or (isinstance(error, RemoteError) and error.code == Draining.code)


async def patiently(
    ask: Callable[[], Awaitable[T]], *, patience_s: float, told: Callable[[LlorchError], None] | None = None
) -> T:
    """Return what *ask* returns; while the orchestrator is away, ask again.

    Args:
        ask: Sends one request that may safely be sent twice.
        patience_s: How long it may be away.
        told: Called each time it was found away.

    Raises:
        LlorchError: What *ask* raised: at once when that is an answer, else when patience has ended.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience_s
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return await ask()
        except LlorchError as error:
            if not away(error) or loop.time() >= give_up:
                raise
            if told is not None:
                told(error)
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, MAX_WAIT_S)
