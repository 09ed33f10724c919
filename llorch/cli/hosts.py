"""`llorch hosts`: the other machines, by name: llorch is put there, renewed, removed and called from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llorch.cli.options import Config, Json, group, settings

if TYPE_CHECKING:
    from pathlib import Path

app = group("Name the other machines, install and upgrade llorch there, run a command on one.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The host's name in the configuration.")]
ExecutableFile = Annotated[
    str | None,
    typer.Option("--executable", metavar="FILE", help="What to copy, built for hosts of another kind [this program]."),
]


@app.command("add", epilog="Example: llorch hosts add mac --url http://mac:9200 --ssh ann@mac.lan")
def add(
    *,
    name: Name,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Its pool [none: ssh alone].")] = None,
    ssh: Annotated[
        str | None, typer.Option("--ssh", metavar="DESTINATION", help="What ssh is given: [user@]host [NAME].")
    ] = None,
    config: Config = None,
) -> None:
    """Add a host to the configuration file, as [hosts.NAME]; what stands there stays as it is."""
    from llorch.cli.hosts_view import checked
    from llorch.cli.output import write
    from llorch.config_file import edit, with_section

    values = checked(name, url=url, ssh=ssh)
    file = _file(config)
    edit(file, lambda text: with_section(text, ("hosts", name), values))
    write(f"{name} added to {file}\n")


@app.command("remove", epilog="Example: llorch hosts remove mac --purge")
def remove(
    *,
    name: Name,
    purge: Annotated[
        bool, typer.Option("--purge", help="First remove from the host itself what `hosts install` has put there.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --purge: do not ask, and go on if the host cannot be reached.")
    ] = False,
    config: Config = None,
) -> int:
    """Remove a host from the configuration file. What runs on the host itself goes on, unless --purge is given.

    --purge ends its pool, gives its workers time to finish, and removes executable, service, settings and models.
    """
    if force and not purge:
        raise typer.BadParameter("--force belongs to --purge")
    from llorch.cli.output import write
    from llorch.cli.remote import target
    from llorch.config_file import edit, without_section

    found = settings(config)
    host = target(name, found.hosts, found.source)
    file = _file(config)
    if purge:
        from llorch.cli.hosts_removal import empty
        from llorch.cli.output import note

        told = empty(host, token=found.token, force=force)
        if told is None:
            note("Nothing was removed.")
            return 1
        write("".join(f"{line}\n" for line in told))
    edit(file, lambda text: without_section(text, ("hosts", name)))
    write(f"{name} removed from {file}\n")
    return 0


@app.command("list", epilog="Example: llorch hosts list")
def listed(*, as_json: Json = False, config: Config = None) -> None:
    """List the hosts: whether the pool of each answers over HTTP, and how `--host` would reach it."""
    found = settings(config)
    import asyncio

    from llorch.cli.hosts_view import HOSTS, HostSeen, row, seen
    from llorch.cli.output import write_json, write_table
    from llorch.cli.remote import Target, target
    from llorch.cli.remote_pool import Answer, probe

    targets = [target(name, found.hosts, found.source) for name in found.hosts]

    async def look(host: Target) -> HostSeen:
        answer = await probe(host.url, what=f"the pool of {host.name}") if host.url else Answer(None, "no url")
        return seen(host, ms=answer.ms, reason=answer.reason)

    async def look_at_all() -> list[HostSeen]:
        async with asyncio.TaskGroup() as tasks:
            looks = [tasks.create_task(look(host), name=host.name) for host in targets]
        return [one.result() for one in looks]

    told = asyncio.run(look_at_all())
    if as_json:
        write_json({"hosts": told})
    else:
        write_table(HOSTS, [row(host) for host in told])


@app.command(
    "exec",
    epilog="Example: llorch hosts exec mac -- df -h",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def execute(
    *,
    name: Name,
    command: Annotated[list[str], typer.Argument(metavar="[--] COMMAND...", help="For the host's own shell.")],
    config: Config = None,
) -> int:
    """Run a command on a host by ssh; its exit status is ours, 255 when ssh itself failed.

    Several words arrive as they are; a single one is a line for the host's shell: llorch hosts exec mac 'ls | wc -l'
    """
    found = settings(config)
    from llorch.cli.complaints import complain
    from llorch.cli.remote import SSH_FAILED, diagnosis, remote_command, target
    from llorch.cli.remote_ssh import run

    words = command[1:] if command[0] == "--" else command
    if not words:
        raise typer.BadParameter("there is no command behind --")
    host = target(name, found.hosts, found.source)
    status, said = run(host, remote_command(words))
    if status == SSH_FAILED:
        complain(diagnosis(said, host))
    return status


@app.command("install", epilog="Example: llorch hosts install workstation --orchestrator http://blep:8080")
def install(
    *,
    name: Name,
    orchestrator: Annotated[
        str | None, typer.Option("--orchestrator", metavar="URL", help="What its pool registers with [ours].")
    ] = None,
    executable: ExecutableFile = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Copy this executable to a host by ssh, start its pool there, and print the pool's devices.

    Again, it replaces the executable and restarts the pool, whose workers go on meanwhile.
    """
    found = settings(config)
    from contextlib import closing
    from urllib.parse import urlsplit

    from llorch.cli import hosts_install
    from llorch.cli.hosts_executable import chosen
    from llorch.cli.output import Status, bold, note, one_line, write, write_json, write_table
    from llorch.cli.pool_view import DEVICES, device_row, headline
    from llorch.cli.remote import target
    from llorch.config import client_url, is_loopback
    from llorch.errors import InvalidConfiguration

    host, file = target(name, found.hosts, found.source), chosen(executable)
    url = client_url(found, orchestrator)
    if orchestrator is None and is_loopback(urlsplit(url).hostname or ""):
        raise InvalidConfiguration(
            f"{name} cannot reach the orchestrator at {url}: say where it can with --orchestrator"
        )
    with closing(Status(wanted=not as_json)) as line:
        done = hosts_install.install(
            host, file, orchestrator=url, insist=orchestrator is not None, token=found.token, doing=line.show
        )
    if done.orchestrator_kept is not None:
        note(
            f"{name} was configured before and goes on with {done.orchestrator_kept or 'no orchestrator'}, "
            f"not with {url}; to change that: llorch hosts install {name} --orchestrator {url}"
        )
    if done.kept_out:
        note(done.kept_out)
    if as_json:
        write_json(done.pool)
        return
    write(bold(one_line(headline(done.pool))) + "\n\n")
    write_table(DEVICES, [device_row(device) for device in done.pool.devices])


@app.command("upgrade", epilog="Example: llorch hosts upgrade mac")
def upgrade(*, name: Name, executable: ExecutableFile = None, as_json: Json = False, config: Config = None) -> None:
    """Bring a host that `hosts install` has set up to this version; its running jobs go on.

    The executable is copied if it differs. The pool is restarted and takes its workers over. Settings stay.
    """
    found = settings(config)
    from contextlib import closing

    from llorch.cli import hosts_install
    from llorch.cli.hosts_executable import chosen
    from llorch.cli.hosts_view import upgraded
    from llorch.cli.output import Status, note, write, write_json
    from llorch.cli.remote import target

    host, file = target(name, found.hosts, found.source), chosen(executable)
    with closing(Status(wanted=not as_json)) as line:
        done = hosts_install.upgrade(host, file, doing=line.show)
    if done.kept_out:
        note(done.kept_out)
    told = upgraded(host, done.pool, before=done.before, replaced=done.replaced)
    if as_json:
        write_json(told)
    else:
        write(f"{told.summary}\n")


def _file(config: str | None) -> Path:
    """Return the file to change: the one in use, which is then known to be sound, else the one to begin.

    Raises:
        InvalidConfiguration: The one in use has a mistake already.
    """
    import os
    from pathlib import Path

    from llorch.config import expanded, user_file

    named = config or os.environ.get("LLORCH_CONFIG")
    if named and not expanded(named).exists():
        return expanded(named)
    return Path(settings(config).source or user_file())
