"""Options that several commands share, and the settings they lead to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from llorch.client import Client
    from llorch.config import Overrides
    from llorch.settings import Settings

Config = Annotated[str | None, typer.Option("--config", metavar="FILE", help="Configuration file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="The orchestrator [http://127.0.0.1:8080].")]
PoolUrl = Annotated[str | None, typer.Option("--pool-url", metavar="URL", help="The pool [http://127.0.0.1:9200].")]
Host = Annotated[str | None, typer.Option("--host", help="Address to listen on [127.0.0.1].")]
Port = Annotated[int | None, typer.Option("--port", help="Port to listen on; 0 takes a free one.")]
DataDir = Annotated[str | None, typer.Option("--data-dir", metavar="DIR", help="Where state is kept.")]

Pooling = Annotated[
    Literal["mean", "cls", "last"] | None,
    typer.Option("--pooling", help="How a text's vectors become one; has a model that writes embed, too."),
]
KvType = Annotated[
    Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"],
    typer.Option("--kv-type", help="How the KV cache is stored."),
]


def group(help_text: str) -> typer.Typer:
    """Return a group of commands; plain help, because rich would double the time that `--help` takes."""
    return typer.Typer(
        help=help_text,
        rich_markup_mode=None,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )


def settings(config: str | None, overrides: Overrides | None = None) -> Settings:
    """Read the configuration under the flags that were given."""
    from llorch.config import load

    return load(config, overrides=overrides)


@asynccontextmanager
async def orchestrator(settings: Settings, url: str | None) -> AsyncIterator[Client]:
    """Open a client for the orchestrator.

    Raises:
        InvalidConfiguration: Not a URL.
        Unreachable: On exit, where it did not answer; the message says what to do.
    """
    from llorch.client import Client
    from llorch.config import client_url

    with _advised("start one with `llorch serve all`, or name another with --url"):
        async with Client(client_url(settings, url), token=settings.token, what="the orchestrator") as client:
            yield client


@asynccontextmanager
async def pool(settings: Settings, url: str | None, *, running: bool = False) -> AsyncIterator[Client]:
    """Open a client for the pool at *url*, else for the one of this host; raises as `orchestrator` does.

    Where none runs on this host, this command is it for as long as it takes, unless it has to be a *running* one.
    """
    from llorch.cli.own_pool import nobody_listens, own_pool
    from llorch.client import Client
    from llorch.config import near_host, web_url

    if url:
        url = web_url(url, "the pool")
    if not url and not running and await nobody_listens(settings.pool.host, settings.pool.port):
        async with own_pool(settings) as client:
            yield client
        return
    base = url or f"http://{near_host(settings.pool.host)}:{settings.pool.port}"
    with _advised("start one with `llorch serve pool`, or name another with --pool-url"):
        async with Client(base, token=settings.token, what="the pool") as client:
            yield client


@contextmanager
def _advised(what_to_do: str) -> Iterator[None]:
    from llorch.errors import Unreachable

    try:
        yield
    except Unreachable as error:
        raise Unreachable(f"{error.message}; {what_to_do}") from error
