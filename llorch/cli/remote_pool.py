"""Whether the pool of a host answers over HTTP."""

from __future__ import annotations

import time
from dataclasses import dataclass

from llorch.client import Client
from llorch.errors import LlorchError
from llorch.wire.meta import Health

TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """How long a pool took to answer, or why it is none."""

    ms: float | None
    reason: str = ""


async def probe(url: str, *, what: str, timeout_s: float = TIMEOUT_S) -> Answer:
    """Ask the pool at *url* whether it is there. Needs no token and sends none."""
    began = time.perf_counter()
    try:
        async with Client(url, what=what) as client:
            await client.send("GET", "/health", Health, timeout_s=timeout_s)
    except LlorchError as error:
        return Answer(None, error.message)
    return Answer((time.perf_counter() - began) * 1000)
