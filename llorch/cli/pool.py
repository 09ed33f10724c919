"""`llorch pool`: what this host's pool has, and which pools there are."""

from __future__ import annotations

from typing import Annotated

import typer

from llorch.cli import pool_git, pool_models, pool_worker
from llorch.cli.flag_checks import an_id
from llorch.cli.options import Config, Json, PoolUrl, Url, group, orchestrator, pool, settings

app = group("Look at pools: their devices, workers and models.")
app.add_typer(pool_models.app, name="models")
app.add_typer(pool_worker.app, name="worker")
app.add_typer(pool_git.app, name="git")

DRAIN_POLL_S = 0.2


@app.command("status", epilog="Example: llorch pool status --pool-url http://workstation:9200")
def status(*, as_json: Json = False, pool_url: PoolUrl = None, config: Config = None) -> None:
    """Show a pool's devices, workers and models."""
    found = settings(config)
    import asyncio

    from llorch.cli import pool_view as view
    from llorch.cli.output import bold, note, one_line, write, write_json, write_table
    from llorch.cli.own_pool import WHAT
    from llorch.wire.pools import PoolStatus

    async def ask() -> PoolStatus:
        async with pool(found, pool_url) as client:
            if client.what == WHAT:
                note("no pool runs here, so this command looks by itself; to start one: llorch serve pool")
            return await client.send("GET", "/v2/status", PoolStatus)

    told = asyncio.run(ask())
    if as_json:
        write_json(told)
        return
    names = view.short_names(told.models)
    write(bold(one_line(view.headline(told))) + "\n\n")
    write_table(view.DEVICES, [view.device_row(device) for device in told.devices])
    if told.workers:
        write("\n")
        write_table(view.WORKERS, [view.worker_row(worker, names) for worker in told.workers])
        for line in view.worker_notes(told):
            note(one_line(line))
    if told.models:
        write("\n")
        write_table(view.MODELS, [view.model_row(model) for model in told.models])


@app.command("list", epilog="Example: llorch pool list")
def pools(*, as_json: Json = False, url: Url = None, config: Config = None) -> None:
    """List the pools that the orchestrator knows."""
    found = settings(config)
    import asyncio
    import time

    from llorch.cli.output import note, one_line, write_json, write_table
    from llorch.cli.pool_view import POOLS, pool_notes, pool_row
    from llorch.wire.pools import PoolList

    async def ask() -> PoolList:
        async with orchestrator(found, url) as client:
            return await client.send("GET", "/v2/pools", PoolList)

    told = asyncio.run(ask())
    if as_json:
        write_json(told)
        return
    now_ms = time.time_ns() // 1_000_000
    write_table(POOLS, [pool_row(one, now_ms) for one in told.pools])
    for line in pool_notes(told.pools):
        note(one_line(line))


@app.command("register", epilog="Example: llorch pool register --orchestrator http://blep:8080")
def register(
    *,
    to: Annotated[
        str | None, typer.Option("--orchestrator", metavar="URL", help="Where the pool reaches it [ours].")
    ] = None,
    as_json: Json = False,
    pool_url: PoolUrl = None,
    config: Config = None,
) -> None:
    """Have a running pool register with an orchestrator, and leave the one it has.

    That lasts until the pool ends; [pool] orchestrator in its configuration says it for good.
    """
    found = settings(config)
    import asyncio
    from urllib.parse import urlsplit

    from llorch.cli.output import one_line, write, write_json
    from llorch.cli.pool_view import headline
    from llorch.config import client_url, is_loopback, web_url
    from llorch.errors import InvalidConfiguration
    from llorch.wire.pools import JoinOrchestrator, PoolStatus

    url = client_url(found, to)
    there = pool_url and not is_loopback(urlsplit(web_url(pool_url, "the pool")).hostname or "")
    if to is None and there and is_loopback(urlsplit(url).hostname or ""):
        raise InvalidConfiguration(
            f"the pool at {pool_url} cannot reach the orchestrator at {url}: say where it can with --orchestrator"
        )

    async def ask() -> PoolStatus:
        async with pool(found, pool_url, running=True) as client:
            return await client.send("POST", "/v2/orchestrator", PoolStatus, body=JoinOrchestrator(url=url))

    told = asyncio.run(ask())
    write_json(told) if as_json else write(one_line(headline(told)) + "\n")


@app.command("drain", epilog="Example: llorch pool drain workstation --wait")
def drain(
    *,
    pool_id: Annotated[str, typer.Argument(metavar="POOL", callback=an_id, help="Its name in `llorch pool list`.")],
    undo: Annotated[bool, typer.Option("--undo", help="Give it work again.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return once its running jobs have ended.")] = False,
    as_json: Json = False,
    url: Url = None,
    config: Config = None,
) -> None:
    """Give a pool no new jobs and workers, whoever restarts meanwhile, until --undo. Its running jobs finish."""
    found = settings(config)
    import asyncio
    from contextlib import closing
    from urllib.parse import quote

    from llorch.cli.output import Status, write, write_json
    from llorch.wire.operations import Overview
    from llorch.wire.pools import Pool

    path = f"/v2/pools/{quote(pool_id, safe='')}/drain"

    async def main() -> None:
        async with orchestrator(found, url) as client:
            if undo:
                async with client.request("DELETE", path):
                    return
            await client.send("POST", path, Pool)
            with closing(Status()) as line:
                while wait:
                    seen = await client.send("GET", "/v2/queue", Overview, params={"limit": "200"})
                    running = sum(job.pool_id == pool_id for job in seen.jobs)
                    if not running:
                        return
                    line.show(f"still running on {pool_id}: {running}")
                    await asyncio.sleep(DRAIN_POLL_S)

    asyncio.run(main())
    if as_json:
        write_json({"pool_id": pool_id, "drained": not undo})
    else:
        write(f"{pool_id} {'gets work again' if undo else 'gets no new work'}\n")
