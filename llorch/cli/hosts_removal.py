"""Empties a host of what `hosts install` has put there, and tells the orchestrator that its pool is gone."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress

from llorch.cli import hosts_purge as plan
from llorch.cli.figures import size
from llorch.cli.hosts_plan import data_folder
from llorch.cli.output import Status
from llorch.cli.question import agreed
from llorch.cli.remote import Target
from llorch.cli.remote_ssh import converse
from llorch.client import Client
from llorch.errors import LlorchError, Unreachable

FORGET_TIMEOUT_S = 5.0


def empty(host: Target, *, token: str, force: bool) -> list[str] | None:
    """Remove llorch from *host*; return lines that say what was done, or None if the user does not want that.

    Args:
        host: Reached by ssh.
        token: What its orchestrator asks for.
        force: Do not ask, and take a host that cannot be reached for one that is gone.

    Raises:
        Unreachable: ssh, or a step on the host, failed.
    """
    try:
        return _empty(host, token=token, force=force)
    except Unreachable as error:
        if not force:
            raise Unreachable(
                f"{error.message}; nothing was removed from the configuration (--force does that all the same)"
            ) from error
        return [f"what is installed on {host.name} stays there: {error.message}"]


def _empty(host: Target, *, token: str, force: bool) -> list[str] | None:
    with closing(Status()) as line:
        line.show("looking at the host …")
        there = plan.found(converse(host, plan.LOOK))
    if there.nothing:
        return [f"there is no llorch on {host.name} that hosts install has put there"]
    if not force and not agreed(plan.question(host, there)):
        return None
    what = plan.removal(there)
    with closing(Status()) as line:
        line.show("letting its workers finish …")
        converse(host, plan.script(what, data=data_folder(there.configuration or "")))
        line.show("telling the orchestrator …")
        _forget(*plan.pool_of(there, host), token=token)
    gone = f"llorch and {size(there.data_bytes or 0)} of data are gone from {host.name}"
    return [gone, *(f"what stays there: {text}" for text in what.stays)]


def _forget(orchestrator: str, pool_id: str, *, token: str) -> None:
    """Have the orchestrator strike the pool out; where it does not answer, the pool is offline there and no harm."""

    async def main() -> None:
        async with (
            Client(orchestrator, token=token, what="the orchestrator") as client,
            client.request("DELETE", f"/v2/pools/{pool_id}", timeout_s=FORGET_TIMEOUT_S),
        ):
            pass

    if orchestrator:
        with suppress(LlorchError):
            asyncio.run(main())
