"""`llorch pool`: what this host's pool has, and which pools there are."""

from __future__ import annotations

from llorch.cli import pool_models, pool_worker
from llorch.cli.options import Config, Json, PoolUrl, Url, group, orchestrator, pool, settings

app = group("Look at pools: their devices, workers and models.")
app.add_typer(pool_models.app, name="models")
app.add_typer(pool_worker.app, name="worker")


@app.command("status", epilog="Example: llorch pool status --pool-url http://workstation:9200")
def status(*, as_json: Json = False, pool_url: PoolUrl = None, config: Config = None) -> None:
    """Show a pool's devices, workers and models."""
    found = settings(config)
    import asyncio

    from llorch.cli import pool_view as view
    from llorch.cli.output import bold, one_line, write, write_json, write_table
    from llorch.wire.pools import PoolStatus

    async def ask() -> PoolStatus:
        async with pool(found, pool_url) as client:
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
    if told.models:
        write("\n")
        write_table(view.MODELS, [view.model_row(model) for model in told.models])


@app.command("list", epilog="Example: llorch pool list")
def pools(*, as_json: Json = False, url: Url = None, config: Config = None) -> None:
    """List the pools that the orchestrator knows."""
    found = settings(config)
    import asyncio
    import time

    from llorch.cli.output import write_json, write_table
    from llorch.cli.pool_view import POOLS, pool_row
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
