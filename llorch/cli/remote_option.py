"""`--host` and `--via`: every command that speaks to a pool can be run for the pool of another host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from llorch.cli.options import settings
from llorch.cli.tree import leaves

if TYPE_CHECKING:
    from llorch.cli.remote import Target, Via

TO_A_POOL = "pool_url"
ON_FILES = "repository"
"""A command with such a parameter works on the files of its host: elsewhere only ssh can run it."""
HELP = "A host of the configuration: over HTTP if its pool answers, else this same command there by ssh."


def add_to(command: object, arguments: Sequence[str]) -> None:
    """Give the two options to every command below *command* that speaks to a pool or works on files of its host.

    Args:
        command: The tree of commands.
        arguments: The command line, of which the other host is sent the rest.
    """
    for _, leaf in leaves(command):
        if leaf.callback is not None and {TO_A_POOL, ON_FILES} & {parameter.name for parameter in leaf.params}:
            leaf.params.extend(_parameters())
            leaf.callback = _routed(leaf.callback, arguments)


@cache
def _parameters() -> tuple[typer.core.TyperOption, ...]:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.command()
    def options(
        *,
        host: Annotated[str | None, typer.Option("--host", metavar="NAME", help=HELP)] = None,
        via: Annotated[str | None, typer.Option("--via", metavar="http|ssh", help="With --host: which way.")] = None,
    ) -> None:
        pass

    return tuple(it for it in typer.main.get_command(app).params if isinstance(it, typer.core.TyperOption))


def _routed(callback: Callable[..., object], arguments: Sequence[str]) -> Callable[..., object]:
    def routed(*, host: str | None, via: Via | None, **given: object) -> object:
        if host is None and via is None:
            return callback(**given)
        if host is None:
            raise typer.BadParameter("--via says how to reach a host: give --host, too")
        if given.get(TO_A_POOL) is not None:
            raise typer.BadParameter("--host and --pool-url both say which pool: give one")
        if via not in {None, "http", "ssh"}:
            raise typer.BadParameter(f"--via is http or ssh, not {via!r}")
        if via == "http" and ON_FILES in given:
            raise typer.BadParameter("this works on the host's own files, which ssh alone reaches: leave out --via")
        config = given.get("config")
        url = _pool_of(host, "ssh" if ON_FILES in given else via, str(config) if config is not None else None)
        if isinstance(url, str):
            return callback(**{**given, TO_A_POOL: url})
        found, reason = url
        return _there(found, arguments, because=reason)

    return routed


def _pool_of(host: str, via: Via | None, config: str | None) -> str | tuple[Target, str]:
    """Return the URL of the host's pool, or the host that ssh has to reach, and why its pool was not asked.

    Raises:
        InvalidConfiguration: No such host.
        Unreachable: Only HTTP is allowed, and its pool does not answer.
    """
    import asyncio

    from llorch.cli.remote import target, way
    from llorch.cli.remote_pool import Answer, probe
    from llorch.errors import Unreachable

    configured = settings(config)
    found = target(host, configured.hosts, configured.source)
    answer = Answer(None)
    if found.url and via != "ssh":
        answer = asyncio.run(probe(found.url, what=f"the pool of {host}"))
    if way(found, via, answers=answer.ms is not None) == "ssh":
        return found, answer.reason
    if answer.ms is None:
        raise Unreachable(f"{answer.reason}; start it there, or leave out --via to have this done by ssh")
    return found.url


def _there(host: Target, arguments: Sequence[str], *, because: str) -> int:
    """Run the same command on *host* by ssh; return its exit status.

    Raises:
        Unreachable: ssh cannot, or there is no llorch; *because*, why HTTP was not the way, comes first.
    """
    from llorch import __version__
    from llorch.cli.complaints import complain
    from llorch.cli.remote import NOT_FOUND, SSH_FAILED, WRONG_USE, diagnosis, forwarded, llorch_command, missing
    from llorch.cli.remote import other_version as advise
    from llorch.cli.remote_ssh import ask, run
    from llorch.errors import Unreachable

    status, said = run(host, llorch_command(forwarded(arguments)))
    if status == SSH_FAILED:
        raise Unreachable("; ".join(filter(None, (because, diagnosis(said, host)))))
    if status == NOT_FOUND:
        raise Unreachable(missing(host))
    if status == WRONG_USE:
        advice = advise(host, theirs=ask(host, f"echo; {llorch_command(['--version'])}"), ours=f"llorch {__version__}")
        if advice is not None:
            complain(advice)
    return status
