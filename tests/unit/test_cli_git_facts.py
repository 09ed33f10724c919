"""What git's machine-readable output means, and what stands in the way of another tree."""

from __future__ import annotations

import pytest

from llorch.cli import git_facts as facts
from llorch.cli.git_facts import Branch, Change, Commit, Losses, Submodule

HASH = "a" * 40
FILE = f"N... 100644 100644 100644 {HASH} {HASH}"


def told(*records: str) -> facts.RepoStatus:
    """Return what a status of these records means."""
    return facts.status_of("".join(record + "\0" for record in records).encode(), "/srv/app")


def test_a_status_tells_branch_upstream_and_every_file() -> None:
    found = told(
        f"# branch.oid {HASH}",
        "# branch.head main",
        "# branch.upstream origin/main",
        "# branch.ab +2 -13",
        f"1 .M {FILE} a name with spaces",
        f"1 MM {FILE} twice",
        f"1 AD {FILE} come and gone",
        f"2 R. {FILE} R100 new name",
        "old name",
        f"u UU N... 1 2 3 4 {HASH} {HASH} {HASH} torn",
        f"1 .M SCM. 160000 160000 160000 {HASH} {HASH} vendor/lib",
        "? left over",
        "? folder/with a repository/",
    )

    assert (found.branch, found.commit, found.upstream) == ("main", HASH, "origin/main")
    assert (found.ahead, found.behind) == (2, 13)
    assert found.changes == [
        Change("a name with spaces", "modified"),
        Change("twice", "modified"),
        Change("come and gone", "added and deleted"),
        Change("new name", "renamed"),
        Change("torn", "in conflict"),
        Change("vendor/lib", "submodule: another commit, changed files"),
    ]
    assert found.untracked == ["left over", "folder/with a repository/"]


def test_what_is_not_there_is_empty() -> None:
    found = told("# branch.oid (initial)", "# branch.head (detached)")

    assert (found.branch, found.commit, found.upstream, found.ahead, found.behind) == ("", "", "", 0, 0)
    assert facts.headline(found) == "/srv/app · no branch · no commit yet · follows no other branch · clean"


@pytest.mark.parametrize(
    ("ahead", "behind", "expected"),
    [(0, 0, "level with"), (1, 0, "1 ahead of"), (0, 2, "2 behind"), (1, 2, "1 ahead of and 2 behind")],
)
def test_the_headline_says_how_the_branch_stands(ahead: int, behind: int, expected: str) -> None:
    heads = (
        f"# branch.oid {HASH}",
        "# branch.head main",
        "# branch.upstream o/main",
        f"# branch.ab +{ahead} -{behind}",
    )

    assert facts.headline(told(*heads, "? x")) == f"/srv/app · main · aaaaaaaaaa · {expected} o/main"


def test_commits_branches_and_submodules_are_read_with_their_odd_names() -> None:
    log = f"{HASH}\x1fAnn\x1f2026-11-25T08:30:00+01:00\x1fSay: a|b\tc\x1e\n{HASH}\x1fBob\x1f2026\x1f\x1e\n".encode()
    refs = f"main\x1f{HASH}\x1forigin/main\x1fahead 1\x1f*\x1fBegin\nx\x1f{HASH}\x1f\x1f\x1f \x1f\n".encode()
    modules = f"-{HASH} a lib (not)\n+{HASH} b (heads/main)\n {HASH} c (v1-2-gabc)\nU{HASH} d\n".encode()

    assert facts.commits_of(log) == [
        Commit(commit=HASH, author="Ann", date="2026-11-25T08:30:00+01:00", subject="Say: a|b\tc"),
        Commit(commit=HASH, author="Bob", date="2026", subject=""),
    ]
    assert facts.branches_of(refs) == [
        Branch(name="main", commit=HASH, upstream="origin/main", track="ahead 1", current=True, subject="Begin"),
        Branch(name="x", commit=HASH, upstream="", track="", current=False, subject=""),
    ]
    assert facts.submodules_of(modules) == [
        Submodule(path="a lib", commit=HASH, state="not checked out"),
        Submodule(path="b", commit=HASH, state="another commit"),
        Submodule(path="c", commit=HASH, state="as wanted"),
        Submodule(path="d", commit=HASH, state="in conflict"),
    ]


def test_only_files_in_the_way_are_overwritten() -> None:
    others = ["same", "folder", "file/below", "deep/er/below", "elsewhere", "same.txt", "repo/"]
    tree = ["same", "folder/inside", "file", "deep/er", "repo/x", "other"]

    assert facts.overwritten(others, tree) == ["same", "folder", "file/below", "deep/er/below", "repo/"]


def test_repositories_inside_are_not_removed() -> None:
    assert facts.removable(["a", "b/c", "other repository/"]) == ["a", "b/c"]


def test_losses_are_listed_by_kind_and_empty_ones_not_at_all() -> None:
    commit = Commit(commit=HASH, author="Ann", date="2026", subject="Mine")

    assert Losses().lines() == []
    assert Losses(changes=[Change("a", "modified")], commits=[commit], files=["b"]).lines() == [
        "uncommitted changes:",
        "  a (modified)",
        "commits that were not pushed:",
        "  aaaaaaaaaa Mine",
        "files that git does not track:",
        "  b",
    ]
