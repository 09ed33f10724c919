"""`llorch pool worker`: start, list and stop the workers of a pool, and read what they log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from llorch.cli.flag_checks import an_id, wrong_fields
from llorch.cli.options import Config, Json, KvType, Pooling, PoolUrl, group, pool, settings

if TYPE_CHECKING:
    from llorch.client import Client
    from llorch.wire.pools import Worker

app = group("Start, list and stop a pool's workers.")

Id = Annotated[str, typer.Argument(metavar="ID", callback=an_id, help="The worker's id.")]
Backend = Literal["cpu", "cuda", "metal"]
POLL_S = 0.1


@app.command("spawn", epilog="Example: llorch pool worker spawn cuda --model qwen --gpu cuda:0")
def spawn(
    *,
    context: typer.Context,
    where: Annotated[Backend | None, typer.Argument(metavar="[BACKEND]", help="cpu, cuda or metal.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A model's alias or reference.")],
    backend: Annotated[Backend | None, typer.Option("--backend", help="The same as BACKEND.")] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", "--gpu", metavar="ID", help="A device of `llorch pool status`, its UUID or number."),
    ] = None,
    engine: Annotated[
        Literal["llamacpp", "torch", "ctransformers", "openai"] | None, typer.Option("--engine", help="What computes.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", help="The worker's port [a free one].")] = None,
    slots: Annotated[int | None, typer.Option("--slots", help="Jobs at once.")] = None,
    ctx: Annotated[int | None, typer.Option("--ctx", help="Context of one slot, in tokens.")] = None,
    kv_type: KvType = "f16",
    lora: Annotated[
        list[str] | None,
        typer.Option("--lora", metavar="REF[:SCALE]", help="The reference of a LoRA adapter; may be given again."),
    ] = None,
    draft: Annotated[
        str, typer.Option("--draft", metavar="REF", help="A small model of the same vocabulary that guesses ahead.")
    ] = "",
    projector: Annotated[str, typer.Option("--projector", metavar="REF", help="What images are read with.")] = "",
    pooling: Pooling = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is ready.")] = True,
    as_json: Json = False,
    pool_url: PoolUrl = None,
    config: Config = None,
) -> None:
    """Start a worker for a model; print its id once it is ready."""
    if where and backend and where != backend:
        raise typer.BadParameter(f"BACKEND is {where}, --backend is {backend}: give one", context)
    import asyncio

    from llorch.cli.model_names import pinned
    from llorch.cli.output import write, write_json
    from llorch.cli.pool_view import refuse_backend
    from llorch.wire.engine_options import EngineOptions, fields_of, files, renamed
    from llorch.wire.pools import PoolStatus, Spawned, SpawnWorker, Worker

    options = EngineOptions(
        kv_type=kv_type, lora=tuple(lora or ()), draft=draft, projector=projector, pooling=pooling or ""
    )
    given = {"backend": where or backend, "device": device, "engine": engine, "port": port, "slots": slots, "ctx": ctx}
    body: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    wrong = wrong_fields(body, SpawnWorker)
    if wrong:
        raise typer.BadParameter(wrong, context)
    found = settings(config)

    async def main() -> Worker:
        async with pool(found, pool_url) as client:
            if where or backend:  # before anything is asked of the model, which may be on no disk yet
                there = await client.send("GET", "/v2/status", PoolStatus)
                refuse_backend(str(where or backend), there.devices)
            body["model_ref"] = (await pinned(client, model, found.aliases)).ref
            refs = {name: (await pinned(client, name, found.aliases)).ref for name in files(options)}
            body.update(fields_of(renamed(options, refs.__getitem__)))
            spawned = await client.send("POST", "/v2/workers/spawn", Spawned, body=body)
            if wait:
                return await _ready(client, spawned.worker_id)
            return await client.send("GET", _path(spawned.worker_id), Worker)

    worker = asyncio.run(main())
    if as_json:
        write_json(worker)
    else:
        write(f"{worker.worker_id}\n")


@app.command("list", epilog="Example: llorch pool worker list")
def workers(*, as_json: Json = False, pool_url: PoolUrl = None, config: Config = None) -> None:
    """List a pool's workers, oldest first."""
    found = settings(config)
    import asyncio

    from llorch.cli.output import write_json, write_table
    from llorch.cli.pool_view import WORKERS, short_names, worker_row
    from llorch.wire.pools import PoolStatus, WorkerList

    async def main() -> PoolStatus:
        async with pool(found, pool_url) as client:
            return await client.send("GET", "/v2/status", PoolStatus)

    told = asyncio.run(main())
    if as_json:
        write_json(WorkerList(told.workers))
    else:
        names = short_names(told.models)
        write_table(WORKERS, [worker_row(worker, names) for worker in told.workers])


@app.command("stop", epilog="Example: llorch pool worker stop 7265ccc3-856f-48d8-90aa-dbcd45490d04")
def stop(*, worker_id: Id, as_json: Json = False, pool_url: PoolUrl = None, config: Config = None) -> None:
    """Stop a worker when its jobs have ended; print where it stands."""
    found = settings(config)
    import asyncio

    from llorch.cli.output import write, write_json
    from llorch.wire.pools import Worker

    async def main() -> Worker:
        async with pool(found, pool_url) as client:
            return await client.send("POST", _path(worker_id) + "/stop", Worker)

    worker = asyncio.run(main())
    if as_json:
        write_json(worker)
    else:
        write(f"{worker.status}\n")


@app.command("stop-all", epilog="Example: llorch pool worker stop-all --model qwen")
def stop_all(
    *,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only those of a model.")] = None,
    as_json: Json = False,
    pool_url: PoolUrl = None,
    config: Config = None,
) -> None:
    """Stop all workers of a pool, each when its jobs have ended; print their ids."""
    found = settings(config)
    import asyncio

    from llorch import models
    from llorch.cli.output import write, write_json
    from llorch.wire.pools import Worker, WorkerList

    async def main() -> list[Worker]:
        async with pool(found, pool_url) as client:
            ref = models.resolve(model, found.aliases) if model is not None else None
            known = (await client.send("GET", "/v2/workers", WorkerList)).workers
            return [
                await client.send("POST", _path(worker.worker_id) + "/stop", Worker)
                for worker in known
                if worker.status not in {"stopped", "failed"}
                and (ref is None or models.stands_for(ref, worker.model_ref))
            ]

    stopped = asyncio.run(main())
    if as_json:
        write_json(WorkerList(stopped))
    else:
        write("".join(f"{worker.worker_id}\n" for worker in stopped))


@app.command("logs", epilog="Example: llorch pool worker logs 7265ccc3-856f-48d8-90aa-dbcd45490d04")
def logs(*, worker_id: Id, as_json: Json = False, pool_url: PoolUrl = None, config: Config = None) -> None:
    """Print the last lines a worker logged."""
    found = settings(config)
    import asyncio

    from llorch.cli.output import write_json, write_text
    from llorch.wire.pools import WorkerLogs

    async def main() -> WorkerLogs:
        async with pool(found, pool_url) as client:
            return await client.send("GET", _path(worker_id) + "/logs", WorkerLogs)

    told = asyncio.run(main())
    if as_json:
        write_json(told)
    else:
        write_text("".join(f"{line}\n" for line in told.lines))


async def _ready(client: Client, worker_id: str) -> Worker:
    """Wait until a worker takes jobs, showing how far it is.

    Raises:
        EngineFailed: It ended instead; the message says why.
    """
    import asyncio
    from contextlib import closing

    from llorch.cli.output import Status
    from llorch.errors import EngineFailed
    from llorch.wire.pools import Worker

    with closing(Status()) as line:
        while True:
            worker = await client.send("GET", _path(worker_id), Worker)
            if worker.status in {"ready", "busy"}:
                return worker
            if worker.status != "starting":
                reason = worker.error if isinstance(worker.error, str) else f"it is {worker.status}"
                raise EngineFailed(f"worker {worker_id} did not get ready: {reason}")
            line.show(f"loading the model … {worker.progress:.0f} %")
            await asyncio.sleep(POLL_S)


def _path(worker_id: str) -> str:
    from urllib.parse import quote

    return f"/v2/workers/{quote(worker_id, safe='')}"
