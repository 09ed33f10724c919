"""The tree of commands; imports nothing but typer and the commands themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from llorch.cli import bench, demo, dev, hosts, jobs, pool, serve, top
from llorch.cli.options import group
from llorch.cli.output import write_version


def build() -> typer.Typer:
    """Return the whole command line."""
    app = group("One service for language models from all your machines. Try: llorch demo")
    app.callback()(_main)
    app.add_typer(serve.app, name="serve")
    app.add_typer(jobs.app, name="jobs")
    app.add_typer(pool.app, name="pool")
    app.add_typer(hosts.app, name="hosts")
    app.add_typer(dev.app, name="dev")
    app.add_typer(bench.app, name="bench", cls=bench.SystemByDefault)
    app.command("top", epilog=top.EPILOG)(top.top)
    app.command("demo", epilog=demo.EPILOG)(demo.demo)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        write_version()
        raise typer.Exit


def _main(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass
