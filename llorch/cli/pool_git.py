"""`llorch pool git`: the configured repository of a host: where it stands, bring it forward, put it right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llorch.cli.options import Config, Json, group, settings

if TYPE_CHECKING:
    from llorch.cli.git_facts import Commit, Losses
    from llorch.cli.git_repo import Repository

app = group("Look after a host's copy of your repository.")

Repo = Annotated[str | None, typer.Option("--repo", metavar="DIR", help="Its folder [the one of [pool] git_repo].")]
Force = Annotated[bool, typer.Option("--force", help="Do not ask.")]


@app.command("status", epilog="Example: llorch pool git status --host mac")
def status(*, as_json: Json = False, repository: Repo = None, config: Config = None) -> None:
    """Show the branch, how it stands to the one it follows, and every file that is not as committed."""
    from llorch.cli.git_facts import headline
    from llorch.cli.output import bold, one_line, write, write_json, write_table

    told = _open(repository, config).status()
    if as_json:
        write_json(told)
        return
    write(bold(one_line(headline(told))) + "\n")
    rows = [(change.path, change.state) for change in told.changes]
    rows += [(path, "not tracked") for path in told.untracked]
    if rows:
        write("\n")
        write_table(("FILE", "STATE"), rows)


@app.command("pull", epilog="Example: llorch pool git pull --submodules --host mac")
def pull(
    *,
    submodules: Annotated[bool, typer.Option("--submodules", help="Then update submodules, too.")] = False,
    as_json: Json = False,
    repository: Repo = None,
    config: Config = None,
) -> None:
    """Bring the branch forward to the one it follows, where that costs nothing; print the commits that are new."""
    from contextlib import closing

    from llorch.cli.output import Status, note, write_json

    repo = _open(repository, config)
    with closing(Status(wanted=not as_json)) as line:
        line.show("fetching …")
        new = repo.pull()
        if submodules:
            repo.update_submodules()
    if as_json:
        write_json({"commits": new})
        return
    note(f"{len(new)} new commit{'' if len(new) == 1 else 's'}" if new else "there is nothing new")
    _write_commits(new)


@app.command("sync", epilog="Example: llorch pool git sync --host mac --force")
def sync(*, force: Force = False, as_json: Json = False, repository: Repo = None, config: Config = None) -> int:
    """Fetch, and make files, branch and submodules those of the branch it follows; show what that destroys, and ask."""
    from contextlib import closing

    from llorch.cli.output import Status, write, write_json

    repo = _open(repository, config)
    with closing(Status(wanted=not as_json)) as line:
        line.show("fetching …")
        target = repo.fetch()
        losses = repo.lost_by_sync(target)
    if not _agreed(losses, "Drop this for good?", force=force):
        return 1
    repo.sync(target)
    if as_json:
        write_json({"commit": target, "lost": _lost(losses)})
    else:
        write(f"{repo.path} is at {target[:10]}\n")
    return 0


@app.command("clean", epilog="Example: llorch pool git clean --force")
def clean(
    *,
    ignored: Annotated[bool, typer.Option("--ignored", "-x", help="Also files that .gitignore names.")] = False,
    force: Force = False,
    as_json: Json = False,
    repository: Repo = None,
    config: Config = None,
) -> int:
    """Remove the files that git does not track; show them, and ask."""
    from llorch.cli.output import note, write, write_json

    repo = _open(repository, config)
    losses = repo.lost_by_clean(ignored=ignored)
    if not losses.files and not as_json:
        note("there is nothing to remove")
        return 0
    if not _agreed(losses, "Remove them for good?", force=force):
        return 1
    repo.clean(ignored=ignored)
    if as_json:
        write_json({"removed": list(losses.files)})
    else:
        write("".join(f"{path}\n" for path in losses.files))
    return 0


@app.command("submodules", epilog="Example: llorch pool git submodules --update --host mac")
def submodules(
    *,
    update: Annotated[
        bool, typer.Option("--update", help="Fetch them first, and check the wanted commits out.")
    ] = False,
    as_json: Json = False,
    repository: Repo = None,
    config: Config = None,
) -> None:
    """List submodules, and whether each is at the commit that the repository wants; local changes stop an update."""
    from contextlib import closing

    from llorch.cli.output import Status, write_json, write_table

    repo = _open(repository, config)
    if update:
        with closing(Status(wanted=not as_json)) as line:
            line.show("fetching …")
            repo.update_submodules()
    told = repo.submodules()
    if as_json:
        write_json({"submodules": told})
    else:
        write_table(("SUBMODULE", "COMMIT", "STATE"), [(one.path, one.commit[:10], one.state) for one in told])


@app.command("branches", epilog="Example: llorch pool git branches --remote")
def branches(
    *,
    remote: Annotated[bool, typer.Option("--remote", "-r", help="With those of other repositories.")] = False,
    as_json: Json = False,
    repository: Repo = None,
    config: Config = None,
) -> None:
    """List the branches, what each follows, and how it stands to that."""
    from llorch.cli.output import write_json, write_table

    told = _open(repository, config).branches(remote=remote)
    if as_json:
        write_json({"branches": told})
        return
    header = ("", "BRANCH", "COMMIT", "FOLLOWS", "STANDS", "SUBJECT")
    rows = [("*" if b.current else "", b.name, b.commit[:10], b.upstream, b.track, b.subject) for b in told]
    write_table(header, rows)


@app.command("log", epilog="Example: llorch pool git log --limit 5 --host mac")
def log(
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Most commits to list.")] = 20,
    as_json: Json = False,
    repository: Repo = None,
    config: Config = None,
) -> None:
    """List commits, newest first."""
    from llorch.cli.output import write_json

    told = _open(repository, config).log(limit=limit)
    if as_json:
        write_json({"commits": told})
    else:
        _write_commits(told)


def _open(repository: str | None, config: str | None) -> Repository:
    """Return the repository that is meant.

    Raises:
        InvalidConfiguration: None is named, or it is none.
    """
    from llorch.cli.git_repo import Repository
    from llorch.config import expanded
    from llorch.errors import InvalidConfiguration

    named = repository or settings(config).pool.git_repo
    if not named:
        raise InvalidConfiguration("no repository is named: set [pool] git_repo, or give --repo DIR")
    return Repository(expanded(named))


def _agreed(losses: Losses, question: str, *, force: bool) -> bool:
    """Show what would be lost and tell whether that is wanted; nothing is asked where nothing would be.

    Raises:
        typer.BadParameter: Nobody can be asked.
    """
    from llorch.cli.output import note
    from llorch.cli.question import agreed, can_ask

    lines = losses.lines()
    for line in lines:
        note(line)
    if force or not lines:
        return True
    if not can_ask():
        raise typer.BadParameter("nobody can be asked whether to drop this: give --force")
    if agreed(question):
        return True
    note("Nothing was changed.")
    return False


def _lost(losses: Losses) -> dict[str, object]:
    return {"changes": list(losses.changes), "commits": list(losses.commits), "files": list(losses.files)}


def _write_commits(commits: list[Commit]) -> None:
    from llorch.cli.output import write_table

    if commits:
        rows = [(one.commit[:10], one.date[:16].replace("T", " "), one.author, one.subject) for one in commits]
        write_table(("COMMIT", "DATE", "AUTHOR", "SUBJECT"), rows)
