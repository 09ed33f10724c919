"""What git tells of a repository, from its machine-readable output to types, and what a command would lose. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

STATUS = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--ignore-submodules=none")
LOG_FORMAT = "%H%x1f%an%x1f%aI%x1f%s%x1e"
REF_FORMAT = (
    "%(refname:short)%1f%(objectname)%1f%(upstream:short)%1f%(upstream:track,nobracket)%1f%(HEAD)%1f%(contents:subject)"
)
_STATES = {"M": "modified", "T": "type changed", "A": "added", "D": "deleted", "R": "renamed", "C": "copied"}
_FIELDS = {"1": 8, "2": 9, "u": 10}


class Change(msgspec.Struct, frozen=True):
    """A tracked file that is not as in the last commit."""

    path: str
    state: str


class RepoStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`pool git status`. `branch` is empty when none is checked out, `upstream` when it follows none."""

    repository: str
    branch: str
    commit: str
    upstream: str
    ahead: int
    behind: int
    changes: list[Change]
    untracked: list[str]


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """A branch; `track` is git's own word for where it stands to its upstream."""

    name: str
    commit: str
    upstream: str
    track: str
    current: bool
    subject: str


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A commit; `date` is ISO 8601."""

    commit: str
    author: str
    date: str
    subject: str


class Submodule(msgspec.Struct, frozen=True, kw_only=True):
    """A submodule, and how it stands to what the repository wants of it."""

    path: str
    commit: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What a command would destroy: changes, commits that are nowhere else, files that git does not track."""

    changes: Sequence[Change] = ()
    commits: Sequence[Commit] = ()
    files: Sequence[str] = ()

    def lines(self) -> list[str]:
        """Return what is lost, an item a line, under a heading for each kind."""
        found: list[str] = []
        for heading, items in (
            ("uncommitted changes:", [f"{change.path} ({change.state})" for change in self.changes]),
            ("commits that were not pushed:", [f"{commit.commit[:10]} {commit.subject}" for commit in self.commits]),
            ("files that git does not track:", list(self.files)),
        ):
            found += [heading, *(f"  {item}" for item in items)] if items else []
        return found


def status_of(output: bytes, repository: str) -> RepoStatus:
    """Return what `git status` with `STATUS` said."""
    heads: dict[str, str] = {}
    changes: list[Change] = []
    untracked: list[str] = []
    records = iter(split(output, "\0"))
    for record in records:
        kind, _, rest = record.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            heads[name] = value
        elif kind == "?":
            untracked.append(rest)
        elif kind in _FIELDS:
            xy, submodule, *_ = fields = rest.split(" ", _FIELDS[kind] - 1)
            if kind == "2":
                next(records)  # the path that it had
            changes.append(Change(fields[-1], _state(kind, xy, submodule)))
    ahead, _, behind = heads.get("branch.ab", "+0 -0").partition(" ")
    branch, commit = heads.get("branch.head", ""), heads.get("branch.oid", "")
    return RepoStatus(
        repository=repository,
        branch="" if branch == "(detached)" else branch,
        commit="" if commit == "(initial)" else commit,
        upstream=heads.get("branch.upstream", ""),
        ahead=int(ahead),
        behind=-int(behind),
        changes=changes,
        untracked=untracked,
    )


def branches_of(output: bytes) -> list[Branch]:
    """Return what `git for-each-ref` with `REF_FORMAT` said."""
    rows = (line.split("\x1f") for line in split(output, "\n"))
    return [
        Branch(name=name, commit=commit, upstream=upstream, track=track, current=head == "*", subject=subject)
        for name, commit, upstream, track, head, subject in rows
    ]


def commits_of(output: bytes) -> list[Commit]:
    """Return what `git log` with `LOG_FORMAT` said."""
    rows = (record.strip("\n").split("\x1f") for record in split(output, "\x1e"))
    return [Commit(commit=c[0], author=c[1], date=c[2], subject=c[3]) for c in rows if len(c) == 4]


def submodules_of(output: bytes) -> list[Submodule]:
    """Return what `git submodule status` said: `-` not there yet, `+` another commit, `U` in conflict."""
    states = {"-": "not checked out", "+": "another commit", "U": "in conflict"}
    found: list[Submodule] = []
    for line in split(output, "\n"):
        commit, _, rest = line[1:].partition(" ")
        path = rest.rpartition(" (")[0] if rest.endswith(")") else rest
        found.append(Submodule(path=path, commit=commit, state=states.get(line[0], "as wanted")))
    return found


def overwritten(others: Iterable[str], tree: Iterable[str]) -> list[str]:
    """Return the files that are not tracked and in the way of those of *tree*: the same name, or a folder there."""
    wanted = set(tree)
    folders = {path[:end] for path in wanted for end in range(len(path)) if path[end] == "/"}
    return [
        path
        for path in others
        if path.rstrip("/") in wanted
        or path.rstrip("/") in folders
        or any(path[:end] in wanted for end in range(len(path)) if path[end] == "/")
    ]


def removable(untracked: Iterable[str]) -> list[str]:
    """Return what `git clean` removes of the files that are not tracked: repositories in folders it leaves."""
    return [path for path in untracked if not path.endswith("/")]


def split(output: bytes, end: str) -> list[str]:
    """Return records, each of which ends with *end*; what is not UTF-8 in a name becomes a mark."""
    return [record for record in output.decode("utf-8", "replace").split(end) if record]


def headline(status: RepoStatus) -> str:
    """Return where a repository stands, in one line."""
    parts = [status.repository, status.branch or "no branch", status.commit[:10] or "no commit yet"]
    if status.upstream:
        ways = [f"{count} {way}" for count, way in ((status.ahead, "ahead of"), (status.behind, "behind")) if count]
        parts.append(f"{' and '.join(ways) or 'level with'} {status.upstream}")
    else:
        parts.append("follows no other branch")
    if not status.changes and not status.untracked:
        parts.append("clean")
    return " · ".join(parts)


def _state(kind: str, xy: str, submodule: str) -> str:
    if kind == "u":
        return "in conflict"
    if submodule.startswith("S"):
        marks = {"C": "another commit", "M": "changed files", "U": "untracked files"}
        words = [marks[mark] for mark in submodule[1:] if mark in marks]
        return f"submodule: {', '.join(words)}" if words else "submodule"
    words = [_STATES.get(mark, mark) for mark in dict.fromkeys(xy) if mark != "."]
    return " and ".join(words)
