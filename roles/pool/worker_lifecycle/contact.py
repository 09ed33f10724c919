"""What a pool asks of a worker over HTTP. A worker that does not answer is a fact here, not an error."""

from __future__ import annotations

from llorch import log
from llorch.client import Client
from llorch.errors import LlorchError
from llorch.wire.workers import ShuttingDown, WorkerHealth

ANSWER_TIMEOUT_S = 5.0
_log = log.get("pool.contact")


async def health(url: str, token: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> WorkerHealth | None:
    """Return what a worker says of itself; None where it does not answer. It takes this as a sign of its pool."""
    try:
        async with Client(url, token=token, what="the worker") as client:
            return await client.send("GET", "/health", WorkerHealth, timeout_s=timeout_s)
    except LlorchError:
        return None


async def shut_down(url: str, token: str, *, drain_s: float) -> bool:
    """Ask a worker to finish its jobs and end; tell whether it will.

    Args:
        url: The worker.
        token: Its token.
        drain_s: What its jobs may take, from now on; `math.inf` for as long as they take. It can be asked again.
    """
    try:
        async with Client(url, token=token, what="the worker") as client:
            await client.send("POST", f"/shutdown?drain_s={drain_s}", ShuttingDown, timeout_s=ANSWER_TIMEOUT_S)
    except LlorchError as error:
        _log.info("worker_not_drained", worker=url, reason=error.message)
        return False
    return True
