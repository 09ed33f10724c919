"""`llorch serve`: run a role, or all of them in one process."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from llorch.cli.options import Config, DataDir, Host, KvType, Pooling, Port, group, settings

app = group("Run a role. The first line on stdout is its URL; logs go to stderr.")


@app.command("orchestrator", epilog="Example: llorch serve orchestrator --port 8080")
def orchestrator(host: Host = None, port: Port = None, data_dir: DataDir = None, config: Config = None) -> int:
    """Queue jobs and send them to workers (default port 8080)."""
    found = settings(config, {"orchestrator": {"host": host, "port": port, "data_dir": data_dir}})
    from llorch import log
    from llorch.serve import Site, run, serve
    from roles.orchestrator.app import create

    log.configure(found.log)
    own = found.orchestrator
    return run(lambda: serve([Site(create(found), own.host, own.port)], token=found.token))


@app.command("pool", epilog="Example: llorch serve pool --orchestrator http://10.0.0.1:8080")
def pool(
    *,
    orchestrator: Annotated[
        str | None, typer.Option("--orchestrator", metavar="URL", help="The orchestrator to register with.")
    ] = None,
    pool_id: Annotated[str | None, typer.Option("--pool-id", metavar="ID", help="Its name [the host's].")] = None,
    advertise: Annotated[
        str | None, typer.Option("--advertise", metavar="URL", help="The address that the orchestrator is told.")
    ] = None,
    keep_workers: Annotated[
        bool | None, typer.Option("--keep-workers", help="Leave workers running on a stop, for the next pool process.")
    ] = None,
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> int:
    """Manage this host's devices, models and workers (default port 9200)."""
    flags = {
        "keep_workers": keep_workers,
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "orchestrator": orchestrator,
        "pool_id": pool_id,
        "advertise": advertise,
    }
    found = settings(config, {"pool": flags})
    from llorch import log
    from llorch.serve import Site, run, serve
    from roles.pool.app import create

    log.configure(found.log)
    return run(lambda: serve([Site(create(found), found.pool.host, found.pool.port)], token=found.token))


@app.command("worker", epilog="Example: llorch serve worker --model ./model.gguf --port 9300")
def worker(
    *,
    model: Annotated[str, typer.Option("--model", metavar="PATH", help="A file, a folder, or server:NAME/MODEL.")],
    model_ref: Annotated[
        str, typer.Option("--model-ref", metavar="REF", help="The reference it serves [its path].")
    ] = "",
    worker_id: Annotated[str, typer.Option("--worker-id", metavar="ID", help="Its id [a random one].")] = "",
    backend: Annotated[Literal["cpu", "cuda", "metal"], typer.Option("--backend", help="What computes.")] = "cpu",
    device: Annotated[str, typer.Option("--device", metavar="ID", help="The device, such as cuda:0 [the first].")] = "",
    split: Annotated[
        str, typer.Option("--split", metavar="PARTS", help="Over several devices: cuda:0 = 17, cuda:1 = 16.")
    ] = "",
    engine: Annotated[
        Literal["llamacpp", "torch", "ctransformers", "openai"], typer.Option("--engine", help="The code that does it.")
    ] = "llamacpp",
    dtype: Annotated[
        Literal["bfloat16", "float16", "float32"], typer.Option("--dtype", help="What the engine torch computes in.")
    ] = "bfloat16",
    slots: Annotated[int | None, typer.Option("--slots", help="Jobs at once [4].")] = None,
    ctx: Annotated[int | None, typer.Option("--ctx", help="Context of one slot, in tokens [the model's].")] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads [one a core].")] = None,
    kv_type: KvType = "f16",
    lora: Annotated[
        list[str] | None, typer.Option("--lora", metavar="PATH[:SCALE]", help="A LoRA adapter; may be given again.")
    ] = None,
    draft: Annotated[str, typer.Option("--draft", metavar="PATH", help="A small model that guesses ahead.")] = "",
    projector: Annotated[str, typer.Option("--projector", metavar="PATH", help="What images are read with.")] = "",
    pooling: Pooling = None,
    callback_url: Annotated[
        str, typer.Option("--callback-url", metavar="URL", help="The pool that is told when it is ready.")
    ] = "",
    orphan_s: Annotated[
        float, typer.Option("--orphan-s", min=0, help="Seconds without jobs or its pool before it ends [for ever].")
    ] = 0.0,
    host: Host = None,
    port: Port = None,
    config: Config = None,
) -> int:
    """Run one model; works without a pool. LLORCH_WORKER_TOKEN protects its endpoints."""
    flags = {"host": host, "port": port, "slots": slots, "ctx": ctx, "threads": threads}
    found = settings(config, {"worker": flags})
    from llorch.cli.pooled_worker import Told, run

    options = Told(
        model=model,
        model_ref=model_ref,
        worker_id=worker_id,
        backend=backend,
        device=device,
        split=split,
        engine=engine,
        dtype=dtype,
        callback_url=callback_url,
        orphan_s=orphan_s,
        kv_type=kv_type,
        lora=tuple(lora or ()),
        draft=draft,
        projector=projector,
        pooling=pooling or "",
    )
    return run(found, options)


@app.command("all", epilog="Example: llorch serve all --port 0")
def everything(
    *,
    host: Host = None,
    port: Port = None,
    pool_port: Annotated[int | None, typer.Option("--pool-port", help="The pool's port; 0 takes a free one.")] = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> int:
    """Run orchestrator, pool and workers in one process, without configuration."""
    from pathlib import Path

    orchestrator_dir, pool_dir = (str(Path(data_dir) / role) if data_dir else None for role in ("orchestrator", "pool"))
    flags = {
        "orchestrator": {"host": host, "port": port, "data_dir": orchestrator_dir},
        "pool": {"port": pool_port, "data_dir": pool_dir},
    }
    found = settings(config, flags)
    from llorch import log
    from llorch.cli.local import sites
    from llorch.serve import run, serve

    log.configure(found.log)
    return run(lambda: serve(sites(found), token=found.token))
