"""What the Tab key offers for values: hosts, models, jobs, workers, pools; nothing, and no word, where it cannot.

The shell runs `llorch` with a variable set, which says so; only then is this imported. Words and options are offered by
typer itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import typer

import llorch.client  # noqa: F401 - here, so that importing it takes nothing of the time to ask
from llorch.cli.options import orchestrator, pool, settings
from llorch.cli.tree import leaves
from llorch.errors import LlorchError
from llorch.job import FINAL
from llorch.models import BUILTIN_ALIASES
from llorch.settings import Settings
from llorch.wire.pools import PoolList, WorkerList
from llorch.wire.tasks import TaskPage

VARIABLE = "_LLORCH_COMPLETE"
LIMIT_S = 1.0
MOST = "100"
Given = Mapping[str, object]
Offer = Callable[[Settings, Given], Awaitable[list[str]]]


async def hosts(found: Settings, _given: Given) -> list[str]:
    """Return the hosts of the configuration."""
    return list(found.hosts)


async def ways(_found: Settings, _given: Given) -> list[str]:
    """Return how a host can be reached."""
    return ["http", "ssh"]


async def models(found: Settings, _given: Given) -> list[str]:
    """Return the short names of models, built in and the user's own."""
    return sorted({**BUILTIN_ALIASES, **found.aliases})


async def jobs(found: Settings, given: Given) -> list[str]:
    """Return the newest jobs."""
    async with orchestrator(found, _text(given, "url")) as client:
        page = await client.send("GET", "/v2/tasks", TaskPage, params={"limit": MOST}, timeout_s=LIMIT_S)
    return [task.job_id for task in page.tasks]


async def live_jobs(found: Settings, given: Given) -> list[str]:
    """Return the newest jobs that have not ended."""
    async with orchestrator(found, _text(given, "url")) as client:
        page = await client.send("GET", "/v2/tasks", TaskPage, params={"limit": MOST}, timeout_s=LIMIT_S)
    return [task.job_id for task in page.tasks if task.status not in FINAL]


async def pools(found: Settings, given: Given) -> list[str]:
    """Return the pools that the orchestrator knows."""
    async with orchestrator(found, _text(given, "url")) as client:
        return [one.pool_id for one in (await client.send("GET", "/v2/pools", PoolList, timeout_s=LIMIT_S)).pools]


async def workers(found: Settings, given: Given) -> list[str]:
    """Return the workers of the pool that is spoken to."""
    host = found.hosts.get(str(given.get("host")))
    url = host.url if host is not None else _text(given, "pool_url")
    async with pool(found, url, running=True) as client:
        return [
            one.worker_id for one in (await client.send("GET", "/v2/workers", WorkerList, timeout_s=LIMIT_S)).workers
        ]


AT_HAND = (hosts, models, ways)
OFFERS: Mapping[str, Offer] = {"job_id": jobs, "model": models, "pool_id": pools, "via": ways, "worker_id": workers}


def offer_for(path: tuple[str, ...], parameter: str, *, remote: bool) -> Offer | None:
    """Return what is offered for a parameter of a command; *remote* ones know hosts by name. Pure."""
    if path[0] == "serve" or path == ("hosts", "add"):
        return None  # addresses, files and new names
    if (parameter == "host" and remote) or (parameter == "name" and path[0] == "hosts"):
        return hosts
    return live_jobs if path == ("jobs", "cancel") and parameter == "job_id" else OFFERS.get(parameter)


def add_to(command: object) -> None:
    """Have every parameter below *command* that takes such a name offer what there is."""
    for path, leaf in leaves(command):
        remote = any(parameter.name == "via" for parameter in leaf.params)
        for parameter in leaf.params:
            offer = offer_for(path, parameter.name or "", remote=remote)
            if offer is not None:
                # What typer's own `autocompletion` becomes; it can be given only where a parameter is declared.
                parameter._custom_shell_complete = partial(_offered, offer)  # noqa: SLF001


def _offered(offer: Offer, context: typer.Context, _parameter: object, incomplete: str) -> list[str]:
    """Return what fits to what is typed; one that asks somebody ends the process after `LIMIT_S`."""
    if offer not in AT_HAND and hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        found = asyncio.run(_ask(offer, context.params))
    except (LlorchError, OSError):
        return []
    return [name for name in found if name.startswith(incomplete)]


async def _ask(offer: Offer, given: Given) -> list[str]:
    return await offer(settings(_text(given, "config")), given)


def _text(given: Given, name: str) -> str | None:
    value = given.get(name)
    return value if isinstance(value, str) else None
