"""`llorch pool models`: fetch, look at, check and delete the models of a pool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from llorch.cli.flag_checks import an_id
from llorch.cli.options import Config, Json, PoolUrl, group, pool, settings

if TYPE_CHECKING:
    from llorch.client import Client
    from llorch.wire.models import StoredModel

T = TypeVar("T")
app = group("Fetch, look at, check and delete a pool's models.")

Name = Annotated[str, typer.Argument(metavar="MODEL", help="An alias, a reference, or an id of `list`.")]
VERIFY_S = 24 * 3600.0


@app.command("download", epilog="Example: llorch pool models download qwen")
def download(
    *,
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="An alias, hf:org/repo, or hf:org/repo@revision::file=path."),
    ],
    evict: Annotated[
        bool, typer.Option("--evict", help="Delete the models used least recently where room is needed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted to make room.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Print the download's id and do not wait.")] = False,
    cancel_on_exit: Annotated[
        bool, typer.Option("--cancel-on-exit", help="Cancel the download on Ctrl-C instead of leaving it to the pool.")
    ] = False,
    as_json: Json = False,
    pool_url: PoolUrl = None,
    config: Config = None,
) -> None:
    """Have a pool fetch a model, and show how far it is; print the model's reference.

    hf:org/repo is its one GGUF, or the one of Q4_K_M; without any, its safetensors.

    The pool fetches, not this command: after Ctrl-C the download goes on. Where no pool runs, it ends with the command.
    """
    found = settings(config)
    import asyncio

    from msgspec import UNSET

    from llorch.cli.figures import size
    from llorch.cli.model_download import follow
    from llorch.cli.model_names import pinned
    from llorch.cli.output import note, write, write_json
    from llorch.cli.own_pool import WHAT
    from llorch.errors import Conflict
    from llorch.wire.models import Download, DownloadModel, Started

    async def main() -> None:
        async with pool(found, pool_url) as client:
            alone = client.what == WHAT
            if alone and detach:
                raise Conflict("no pool runs here that would go on with it: start one with llorch serve pool, or wait")
            pin = await pinned(client, model, found.aliases, newest=True)
            size_bytes = UNSET if pin.size_bytes is None else pin.size_bytes
            body = DownloadModel(model_ref=pin.ref, size_bytes=size_bytes, evict=evict, dry_run=dry_run)
            started = await client.send("POST", "/v2/models/download", Started, body=body)
            if dry_run or detach:
                if as_json:
                    write_json(started)
                elif detach and not dry_run:
                    write(f"{started.download_id}\n")
                else:
                    for victim in started.evict:
                        write(f"would delete {victim.model_ref} ({size(victim.size_bytes)})\n")
                    note(f"{pin.ref} fits" + (" then" if started.evict else ""))
                return
            try:
                await follow(client, started, as_json=as_json)
            except asyncio.CancelledError:
                path = f"/v2/models/downloads/{started.download_id}"
                if cancel_on_exit:
                    await client.send("DELETE", path, Download)
                elif alone:
                    note("what has come is kept, and the same command goes on with it")
                else:
                    note(f"the pool goes on; to stop it: llorch pool models cancel {started.download_id}")
                raise
            if not as_json:
                write(f"{pin.ref}\n")

    asyncio.run(main())


@app.command("cancel", epilog="Example: llorch pool models cancel c473cbb0051dea8c")
def cancel(
    *,
    download_id: Annotated[str, typer.Argument(metavar="ID", callback=an_id, help="The download's id.")],
    as_json: Json = False,
    pool_url: PoolUrl = None,
    config: Config = None,
) -> None:
    """Cancel a download and delete what has come of it; print how it ended."""
    found = settings(config)
    import asyncio
    from urllib.parse import quote

    from llorch.cli.output import write, write_json
    from llorch.wire.models import Download

    async def main() -> Download:
        async with pool(found, pool_url) as client:
            return await client.send("DELETE", f"/v2/models/downloads/{quote(download_id, safe='')}", Download)

    ended = asyncio.run(main())
    write_json(ended) if as_json else write(f"{ended.state}\n")


@app.command("list", epilog="Example: llorch pool models list")
def listed(*, as_json: Json = False, pool_url: PoolUrl = None, config: Config = None) -> None:
    """List the models of a pool that can be used, and the downloads that run."""
    found = settings(config)
    import asyncio

    from llorch.cli.model_view import DOWNLOADS, download_row
    from llorch.cli.output import write, write_json, write_table
    from llorch.cli.pool_view import MODELS, model_row
    from llorch.wire.models import FINAL, DownloadList
    from llorch.wire.pools import ModelList

    async def main() -> tuple[ModelList, DownloadList]:
        async with pool(found, pool_url) as client:
            models = await client.send("GET", "/v2/models", ModelList)
            return models, await client.send("GET", "/v2/models/downloads", DownloadList)

    models, downloads = asyncio.run(main())
    if as_json:
        write_json({"models": models.models, "downloads": downloads.downloads})
        return
    write_table(MODELS, [model_row(model) for model in models.models])
    running = [view for view in downloads.downloads if view.state not in FINAL]
    if running:
        write("\n")
        write_table(DOWNLOADS, [download_row(view) for view in running])


@app.command("catalog", epilog="Example: llorch pool models catalog")
def catalog(*, as_json: Json = False, pool_url: PoolUrl = None, config: Config = None) -> None:
    """List the names of models, built in and your own, and whether they are on the disk."""
    found = settings(config)
    import asyncio

    from llorch.cli.model_view import NAMES, name_rows
    from llorch.cli.output import note, write_json, write_table
    from llorch.errors import Unreachable
    from llorch.wire.pools import ModelList

    async def main() -> ModelList:
        async with pool(found, pool_url) as client:
            return await client.send("GET", "/v2/models", ModelList)

    try:
        there = asyncio.run(main()).models
    except Unreachable as error:
        note(error.message)
        there = None
    rows = name_rows(found.aliases, there)
    if as_json:
        write_json([{"name": row[0], "on_disk": row[1] not in {"–", "?"}, "model_ref": row[2]} for row in rows])
    else:
        write_table(NAMES, rows)


@app.command("info", epilog="Example: llorch pool models info qwen")
def info(*, model: Name, as_json: Json = False, pool_url: PoolUrl = None, config: Config = None) -> None:
    """Show everything known of a model on the disk."""
    from llorch.cli.model_view import facts
    from llorch.cli.output import write_facts, write_json

    async def call(_client: Client, stored: StoredModel) -> StoredModel:
        return stored

    told = _about(model, call, pool_url=pool_url, config=config)
    write_json(told) if as_json else write_facts(facts(told))


@app.command("verify", epilog="Example: llorch pool models verify qwen")
def verify(*, model: Name, as_json: Json = False, pool_url: PoolUrl = None, config: Config = None) -> int:
    """Read a model's files and compare their hashes; exit status 1 when it is corrupt."""
    from llorch.cli.complaints import FAILED
    from llorch.cli.output import write_json, write_table
    from llorch.wire.models import Verified

    async def call(client: Client, stored: StoredModel) -> Verified:
        return await client.send("POST", f"/v2/models/{stored.model_id}/verify", Verified, timeout_s=VERIFY_S)

    told = _about(model, call, pool_url=pool_url, config=config)
    if as_json:
        write_json(told)
    else:
        rows = [("right" if check.ok else "WRONG", check.sha256, check.path) for check in told.files]
        write_table(("HASH", "SHA256", "FILE"), rows)
    return 0 if told.ok else FAILED


@app.command("delete", epilog="Example: llorch pool models delete qwen")
def delete(*, model: Name, as_json: Json = False, pool_url: PoolUrl = None, config: Config = None) -> None:
    """Delete a downloaded model that no worker uses; print the space that came free."""
    from llorch.cli.figures import size
    from llorch.cli.output import write, write_json
    from llorch.wire.models import Deleted

    async def call(client: Client, stored: StoredModel) -> Deleted:
        return await client.send("DELETE", f"/v2/models/{stored.model_id}", Deleted)

    told = _about(model, call, pool_url=pool_url, config=config)
    write_json(told) if as_json else write(f"deleted {told.model_ref}: {size(told.freed_bytes)} came free\n")


@app.command("pin", epilog="Example: llorch pool models pin qwen")
def pin(*, model: Name, as_json: Json = False, pool_url: PoolUrl = None, config: Config = None) -> None:
    """Keep a model on the disk when room is needed for others."""
    _pin(model, pinned=True, as_json=as_json, pool_url=pool_url, config=config)


@app.command("unpin", epilog="Example: llorch pool models unpin qwen")
def unpin(*, model: Name, as_json: Json = False, pool_url: PoolUrl = None, config: Config = None) -> None:
    """Let a model go again when room is needed for others."""
    _pin(model, pinned=False, as_json=as_json, pool_url=pool_url, config=config)


@app.command("disk-usage", epilog="Example: llorch pool models disk-usage")
def disk_usage(*, as_json: Json = False, pool_url: PoolUrl = None, config: Config = None) -> None:
    """Show what takes the space, and what would go first."""
    found = settings(config)
    import asyncio

    from llorch.cli import model_view as view
    from llorch.cli.output import write, write_facts, write_json, write_table
    from llorch.wire.models import DiskUsage

    async def main() -> DiskUsage:
        async with pool(found, pool_url) as client:
            return await client.send("GET", "/v2/models/disk-usage", DiskUsage)

    told = asyncio.run(main())
    if as_json:
        write_json(told)
        return
    write_facts(view.usage(told))
    write("\n")
    by_age = sorted(told.models, key=lambda model: max(model.last_used_ms, model.added_ms))
    write_table(view.STORED, [view.stored_row(model) for model in by_age])


@app.command("register", epilog="Example: llorch pool models register /srv/models/mine.gguf")
def register(
    *,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A GGUF file on the pool's host.")],
    as_json: Json = False,
    pool_url: PoolUrl = None,
    config: Config = None,
) -> None:
    """List a model file of your own; print the reference that jobs name it by."""
    from llorch.cli.output import write, write_json
    from llorch.wire.models import RegisterModel, StoredModel

    body = RegisterModel(model_ref=_file_ref(path))

    async def call(client: Client) -> StoredModel:
        return await client.send("POST", "/v2/models/register", StoredModel, body=body)

    told = _run(call, pool_url=pool_url, config=config)
    write_json(told) if as_json else write(f"{told.model_ref}\n")


@app.command("unregister", epilog="Example: llorch pool models unregister /srv/models/mine.gguf")
def unregister(
    *,
    path: Annotated[str, typer.Argument(metavar="PATH", help="The file; it stays as it is.")],
    as_json: Json = False,
    pool_url: PoolUrl = None,
    config: Config = None,
) -> None:
    """List a model file of your own no longer."""
    from llorch.cli.output import write, write_json
    from llorch.wire.models import RegisterModel, Unregistered

    body = RegisterModel(model_ref=_file_ref(path))

    async def call(client: Client) -> Unregistered:
        return await client.send("POST", "/v2/models/unregister", Unregistered, body=body)

    told = _run(call, pool_url=pool_url, config=config)
    write_json(told) if as_json else write(f"{told.model_ref}\n")


def _pin(model: str, *, pinned: bool, as_json: bool, pool_url: str | None, config: str | None) -> None:
    from llorch.cli.output import write, write_json
    from llorch.wire.models import PinModel, StoredModel

    async def call(client: Client, stored: StoredModel) -> StoredModel:
        path = f"/v2/models/{stored.model_id}/pin"
        return await client.send("POST", path, StoredModel, body=PinModel(pinned=pinned))

    told = _about(model, call, pool_url=pool_url, config=config)
    write_json(told) if as_json else write(f"{told.model_ref}: {'pinned' if told.pinned else 'not pinned'}\n")


def _about(
    name: str, call: Callable[[Client, StoredModel], Awaitable[T]], *, pool_url: str | None, config: str | None
) -> T:
    """Find a model of the pool and do something about it."""
    found = settings(config)
    import asyncio

    from llorch.cli.model_names import find

    async def main() -> T:
        async with pool(found, pool_url) as client:
            return await call(client, await find(client, name, found.aliases))

    return asyncio.run(main())


def _run(call: Callable[[Client], Awaitable[T]], *, pool_url: str | None, config: str | None) -> T:
    """Ask the pool something."""
    found = settings(config)
    import asyncio

    async def main() -> T:
        async with pool(found, pool_url) as client:
            return await call(client)

    return asyncio.run(main())


def _file_ref(path: str) -> str:
    """Return the reference of a file that is named by its path here, or by its reference."""
    import os

    return path if path.startswith("file:") else f"file:{os.path.abspath(os.path.expanduser(path))}"  # noqa: PTH100, PTH111 - resolves no links
