"""`llorch dev`: what an installation needs now and then: to be set up, a check-up, a backup, a backup put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llorch.cli.options import Config, Json, Url, group, settings

if TYPE_CHECKING:
    from pathlib import Path

    from llorch.settings import Settings
    from roles.orchestrator.state.maintenance import Copied

app = group("Set up an installation, check it, back it up.")

DataDir = Annotated[
    str | None,
    typer.Option("--data-dir", metavar="DIR", help="The orchestrator's data directory [the configured one]."),
]


@app.command("setup", epilog="Example: llorch dev setup --bind 0.0.0.0")
def setup(
    *,
    context: typer.Context,
    bind: Annotated[
        str | None, typer.Option("--bind", metavar="ADDRESS", help="Listen where others reach it; makes a token.")
    ] = None,
    shell: Annotated[
        str | None, typer.Option("--shell", metavar="bash|zsh|fish", help="Whose completion [that of $SHELL].")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> int:
    """Make data directories, a configuration, a token where one is needed, and completion; ask first.

    Nothing that is there is replaced, so that it can be run again.
    """
    import socket

    from llorch.cli import setup as run
    from llorch.cli import setup_plan as plan
    from llorch.cli.doctor.examination import report
    from llorch.cli.doctor.machine import demo_model
    from llorch.cli.doctor.result import Examined
    from llorch.cli.output import note, write, write_json, write_table
    from llorch.cli.question import agreed, can_ask
    from llorch.program import called

    if shell not in {None, *plan.SHELLS}:
        raise typer.BadParameter(f"--shell is bash, zsh or fish, not {shell!r}", context)
    wish = run.wish(config=config, bind=bind, shell=shell)
    steps = run.steps(wish)
    missing = any(step.state == "make" for step in steps)
    if not as_json:
        words = {"make": "to make", "there": "there", "kept": "left as it is"}
        write_table(("", "WHAT", "WHERE"), [(words[s.state], s.item.what, str(s.item.path)) for s in steps])
        write("\n")
    if missing and not yes:
        if as_json or not can_ask():
            raise typer.BadParameter("nobody can be asked whether to make this: give --yes", context)
        if not agreed("Make what is missing?"):
            note("Nothing was changed.")
            return 1
    run.make(steps)
    found = settings(str(wish.config_file))
    checked = demo_model(Examined(settings=found))
    lines = plan.next_lines(wish, run.configured(found), hostname=socket.gethostname())
    if as_json:
        told = [{"path": str(s.item.path), "what": s.item.what, "state": s.state} for s in steps]
        write_json({"steps": told, "demo_model": checked, "next": lines})
    else:
        report(checked)
        shown = [f"{called()} {line[7:]}" if line.startswith("llorch ") else line for line in lines]
        write("\nNext:\n" + "".join(f"  {line}\n" for line in shown))
    return 0 if checked.state == "ok" else 1


@app.command("doctor", epilog="Example: llorch dev doctor --config ./llorch.toml")
def doctor(as_json: Json = False, data_dir: DataDir = None, url: Url = None, config: Config = None) -> int:
    """Check this installation; under each failure stands the command that fixes it. Starts nothing."""
    from llorch.cli.doctor.examination import CHECKS, examine, report
    from llorch.cli.output import Status, write_json

    line = Status(wanted=not as_json)
    results = []
    found = examine(CHECKS, config=config, data_dir=data_dir, url=url, doing=lambda name: line.show(f"{name} …"))
    for result in found:
        line.close()
        results.append(result)
        if not as_json:
            report(result)
    if as_json:
        write_json(results)
    return 1 if any(result.state == "failed" for result in results) else 0


@app.command("man", epilog="Example: llorch dev man > ~/.local/share/man/man1/llorch.1")
def man() -> None:
    """Print the manual page."""
    from llorch import __version__
    from llorch.cli import remote_option
    from llorch.cli.app import build
    from llorch.cli.man_page import page
    from llorch.cli.output import write

    root = typer.main.get_command(build())
    remote_option.add_to(root, [])
    assert isinstance(root, typer.core.TyperGroup)
    write(page(root, version=__version__))


@app.command("engine-check", hidden=True)
def engine_check() -> int:
    """Import the engine and say its version. A process of its own: an engine that crashes ends only this one."""
    import importlib.metadata

    import xllamacpp

    from llorch.cli.output import write

    devices = [device["name"] for device in xllamacpp.get_device_info()]
    write(f"xllamacpp {importlib.metadata.version('xllamacpp')}, computes on {', '.join(devices) or 'nothing'}\n")
    return 0


@app.command("backup", epilog="Example: llorch dev backup /srv/backups/llorch-monday.db")
def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The new file.")],
    data_dir: DataDir = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Copy the orchestrator's database to a new file, also while the orchestrator is at work."""
    found = settings(config)

    from llorch.cli.output import Status
    from llorch.config import expanded
    from roles.orchestrator.state.maintenance import backup as copy

    line = Status(wanted=not as_json)
    source, target = database(found, data_dir), expanded(file)
    try:
        copied = copy(source, target, progress=lambda left, total: line.show(f"{left} of {total} pages left"))
    finally:
        line.close()
    _say(copied, as_json=as_json)


@app.command("restore", epilog="Example: llorch dev restore /srv/backups/llorch-monday.db")
def restore(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A backup.")],
    data_dir: DataDir = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Put a backup where the orchestrator looks; what is there is set aside. The orchestrator must not be running."""
    found = settings(config)
    import time

    from llorch.config import expanded
    from roles.orchestrator.state.maintenance import restore as put_back

    source, target = expanded(file), database(found, data_dir)
    _say(put_back(source, target, now_ms=time.time_ns() // 1_000_000), as_json=as_json)


def database(settings: Settings, data_dir: str | None) -> Path:
    """Return where the orchestrator's database is; `serve all --data-dir` keeps it one folder further down."""
    from llorch.config import data_dir as configured
    from llorch.config import expanded
    from roles.orchestrator.app import DATABASE

    if data_dir is None:
        return configured(settings.orchestrator, "orchestrator") / DATABASE
    folder = expanded(data_dir)
    below = folder / "orchestrator" / DATABASE
    return below if below.exists() and not (folder / DATABASE).exists() else folder / DATABASE


def _say(copied: Copied, *, as_json: bool) -> None:
    from llorch.cli.figures import size
    from llorch.cli.output import note, write, write_json

    if as_json:
        aside = str(copied.set_aside) if copied.set_aside is not None else None
        write_json({"file": str(copied.path), "bytes": copied.size_bytes, "jobs": copied.jobs, "set_aside": aside})
        return
    jobs = ", ".join(f"{count:,} {state}" for state, count in copied.jobs.items()) or "no jobs"
    write(f"{copied.path}  {size(copied.size_bytes)}  {jobs}\n")
    if copied.set_aside is not None:
        note(f"The database that was there is now {copied.set_aside}")
