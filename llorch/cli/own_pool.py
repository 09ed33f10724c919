"""A pool for the length of one command, where none runs on this machine: workers that it starts go on without it.

It uses the data directory of the pool that would run here: what one command has started the next one finds, and so does
that pool when it is started. Meanwhile nobody else can use it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from msgspec.structs import replace

from llorch.client import Client
from llorch.config import near_host
from llorch.settings import Log, Settings
from llorch.wire.pools import WorkerList

WHAT = "the pool of this command"
LONGEST_S = 30 * 86_400.0
POLL_S = 0.05
CONNECT_TIMEOUT_S = 2.0


async def nobody_listens(host: str, port: int) -> bool:
    """Tell whether no pool of this machine listens on *host* at *port*, which is 0 where it would take a free one."""
    if not port:
        return True
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(near_host(host).strip("[]"), port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return False


@asynccontextmanager
async def own_pool(settings: Settings) -> AsyncIterator[Client]:
    """Be that pool; before it ends, wait for workers that are being stopped.

    Raises:
        Conflict: Another pool, or another such command, uses the data directory.
    """
    from llorch import log
    from llorch.serve import running
    from roles.pool.app import create

    log.configure(Log(level="error"))
    alone = replace(
        settings.pool,
        host="127.0.0.1",
        port=0,
        orchestrator="",
        advertise="",
        keep_workers=True,
        orphan_s=LONGEST_S,
    )
    async with (
        running(create(replace(settings, pool=alone)), "127.0.0.1", 0) as url,
        Client(url, token=settings.token, what=WHAT) as client,
    ):
        yield client
        while True:
            known = await client.send("GET", "/v2/workers", WorkerList)
            if not any(worker.status == "draining" for worker in known.workers):
                break
            await asyncio.sleep(POLL_S)
