"""The list of checks, and how they are run and shown. To add a check, write it beside the others and name it here."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence

from llorch.cli.doctor import elsewhere, hardware, machine, orchestrator, storage
from llorch.cli.doctor.result import Check, Examined, Result, State, failed, ok, skipped
from llorch.cli.output import colourful, one_line, write
from llorch.config import load
from llorch.errors import InvalidConfiguration
from llorch.settings import Settings

CHECKS = (
    Check(name="version", run=machine.version, configured=False),
    Check(name="engine", run=machine.engine, configured=False),
    Check(name="devices", run=hardware.devices, configured=False),
    Check(name="demo model", run=machine.demo_model, configured=False),
    Check(name="token", run=machine.token),
    Check(name="data directory", run=machine.data_directory),
    Check(name="database", run=storage.database),
    Check(name="ports", run=hardware.ports),
    Check(name="orchestrator", run=orchestrator.orchestrator),
    Check(name="hub", run=elsewhere.model_hub, configured=False),
    Check(name="git", run=elsewhere.git),
    Check(name="hosts", run=elsewhere.hosts),
)
CONFIGURATION = "configuration"
NAME_CELLS = 16
MARKS: dict[State, tuple[str, str]] = {"ok": ("ok", "32"), "failed": ("FAILED", "31"), "skipped": ("-", "2")}


def examine(
    checks: Sequence[Check],
    *,
    config: str | None,
    data_dir: str | None,
    url: str | None,
    doing: Callable[[str], None],
) -> Iterator[Result]:
    """Yield the results of all checks, the configuration's first.

    Args:
        checks: In the order to be run.
        config: `--config`.
        data_dir: `--data-dir`.
        url: `--url`.
        doing: Told the name of each check before it runs.
    """
    read, settings = configuration(config)
    yield from read
    examined = Examined(settings=settings or Settings(), data_dir=data_dir, url=url)
    for check in checks:
        if settings is None and check.configured:
            yield skipped(check.name, "needs the configuration")
            continue
        doing(check.name)
        results = check.run(examined)
        yield from [results] if isinstance(results, Result) else results


def configuration(path: str | None) -> tuple[Sequence[Result], Settings | None]:
    """Read the whole configuration, as every role does when it starts."""
    try:
        settings = load(path)
    except InvalidConfiguration as error:
        problems = error.message.removeprefix("configuration: ").splitlines()
        return [_problem(problem) for problem in problems], None
    return [ok(CONFIGURATION, settings.source or "no file: defaults and LLORCH_* variables")], settings


def shown(result: Result, *, colour: bool) -> str:
    """Return the line of a result, and under it the command that fixes it, if there is one."""
    word, code = MARKS[result.state]
    mark = word.ljust(7)
    if colour:
        mark = f"\x1b[{code}m{word}\x1b[0m" + " " * (7 - len(word))
    line = f"{mark} {result.check.ljust(NAME_CELLS)} {one_line(result.found)}\n"
    return line + (f"        fix: {one_line(result.fix)}\n" if result.fix else "")


def report(result: Result) -> None:
    """Write a result to stdout."""
    write(shown(result, colour=colourful(sys.stdout)))


def _problem(problem: str) -> Result:
    """Turn one problem of the configuration into a result: what to run stands in it, or follows from where it is."""
    found, said, command = problem.partition("; run: ")
    where = problem.partition(": ")[0]
    if said:
        return failed(CONFIGURATION, found, fix=command)
    if where.startswith("LLORCH_"):
        return failed(CONFIGURATION, problem, fix=f"unset {where}")
    return failed(CONFIGURATION, problem, fix=f"${{EDITOR:-vi}} {shlex.quote(where)}")
