"""The user's own git on real repositories: what each command does, what it would destroy, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.cli.git_facts import Change, Losses
from llorch.cli.git_repo import GitFailed, Repository
from llorch.errors import InvalidConfiguration
from tests.support.repositories import ENVIRONMENT, Upstream, commit, git


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be somebody with no configuration, who was started by another git."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_DIR", "/nowhere")


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """A repository to clone."""
    monkeypatch.delenv("GIT_DIR")
    return Upstream(tmp_path / "far")


@pytest.fixture
def work(upstream: Upstream, tmp_path: Path) -> Path:
    """A clone of it."""
    return upstream.clone(tmp_path / "work")


def test_the_status_of_a_real_repository(upstream: Upstream, work: Path) -> None:
    upstream.push({"new": "x"}, "Go on")
    commit(work, {"mine": "x"}, "Mine")
    (work / "readme").write_text("changed\n")
    (work / "däta\n.txt").write_text("x")
    git(work, "fetch", "--quiet")

    found = Repository(work).status()

    assert (found.repository, found.branch, found.upstream) == (str(work), "main", "origin/main")
    assert (found.ahead, found.behind, found.commit) == (1, 1, git(work, "rev-parse", "HEAD"))
    assert (found.changes, found.untracked) == ([Change("readme", "modified")], ["däta\n.txt"])


def test_a_pull_goes_forward_and_keeps_what_is_not_in_the_way(upstream: Upstream, work: Path) -> None:
    (work / "readme").write_text("changed\n")
    (work / "left over").write_text("x")
    upstream.push({"new": "1"}, "One")
    newest = upstream.push({"new": "2"}, "Two")

    new = Repository(work).pull()
    again = Repository(work).pull()

    assert [one.subject for one in new] == ["Two", "One"]
    assert again == []
    assert git(work, "rev-parse", "HEAD") == newest
    assert ((work / "readme").read_text(), (work / "new").read_text()) == ("changed\n", "2")


def test_a_pull_that_would_cost_something_changes_nothing(upstream: Upstream, work: Path) -> None:
    (work / "readme").write_text("changed\n")
    upstream.push({"readme": "other\n"}, "Other")
    with pytest.raises(GitFailed, match="overwritten by merge: readme"):
        Repository(work).pull()
    (work / "readme").write_text("first\n")
    commit(work, {"mine": "x"}, "Mine")
    with pytest.raises(GitFailed, match="have gone apart \\(1 and 1 commits\\)"):
        Repository(work).pull()

    assert git(work, "log", "--format=%s") == "Mine\nBegin"


def test_a_sync_destroys_exactly_what_it_said(upstream: Upstream, work: Path) -> None:
    newest = upstream.push({"data/in": "theirs", "readme": "other\n"}, "Other")
    mine = commit(work, {"mine": "x"}, "Mine")
    (work / "readme").write_text("changed\n")
    (work / "mine").unlink()
    (work / "data").write_text("a file where a folder comes")
    (work / "kept").write_text("x")
    (work / "mine.log").write_text("x")
    repo = Repository(work)

    target = repo.fetch()
    losses = repo.lost_by_sync(target)
    repo.sync(target)

    assert target == newest
    assert losses.changes == [Change("mine", "deleted"), Change("readme", "modified")]
    assert [(one.commit, one.subject) for one in losses.commits] == [(mine, "Mine")]
    assert losses.files == ["data"]
    assert (work / "data" / "in").read_text() == "theirs"
    assert repo.status().changes == []
    assert sorted(path.name for path in work.iterdir()) == [".git", "data", "kept", "mine.log", "readme"]
    assert repo.lost_by_sync(repo.fetch()) == Losses(changes=[], commits=[], files=[])


def test_a_sync_puts_submodules_right(upstream: Upstream, work: Path, tmp_path: Path) -> None:
    library = Upstream(tmp_path / "far", "library")
    upstream.add_submodule(library, "vendor/lib")
    repo = Repository(work)
    repo.pull()
    before = repo.submodules()
    repo.update_submodules()
    (work / "vendor" / "lib" / "readme").write_text("changed\n")
    losses = repo.lost_by_sync(repo.fetch())

    repo.sync(repo.fetch())

    assert [(one.path, one.state) for one in before] == [("vendor/lib", "not checked out")]
    assert losses.changes == [Change("vendor/lib", "submodule: changed files")]
    assert (work / "vendor" / "lib" / "readme").read_text() == "first\n"
    assert [(one.path, one.state) for one in repo.submodules()] == [("vendor/lib", "as wanted")]


def test_a_clean_removes_what_it_said_and_nothing_else(upstream: Upstream, work: Path) -> None:
    commit(work, {".gitignore": "*.log\n"}, "Ignore logs")
    for name in ("left", "folder/over", "a.log"):
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text("x")
    Upstream(work / "another").clone(work / "repository")
    repo = Repository(work)

    losses = repo.lost_by_clean(ignored=False)
    repo.clean(ignored=False)
    ignored = repo.lost_by_clean(ignored=True)
    repo.clean(ignored=True)

    assert {"left", "folder/over"} <= set(losses.files)
    assert "a.log" not in losses.files
    assert list(ignored.files) == ["a.log"]
    assert (work / "repository" / "readme").exists()
    assert not (work / "a.log").exists()
    assert repo.lost_by_clean(ignored=True).files == []


def test_branches_and_log(upstream: Upstream, work: Path) -> None:
    git(work, "branch", "side")
    repo = Repository(work)

    here, everywhere = repo.branches(remote=False), repo.branches(remote=True)

    assert [(b.name, b.upstream, b.current) for b in here] == [("main", "origin/main", True), ("side", "", False)]
    assert "origin/main" in [branch.name for branch in everywhere]
    assert [(one.author, one.subject) for one in repo.log(limit=5)] == [("Ann", "Begin")]


def test_a_branch_that_follows_none_and_no_branch_cannot_be_synced(work: Path) -> None:
    git(work, "switch", "--quiet", "--create", "alone")
    with pytest.raises(GitFailed, match=r"branch alone follows no other: git -C .* --set-upstream-to=origin/alone"):
        Repository(work).fetch()
    git(work, "switch", "--quiet", "--detach")
    with pytest.raises(GitFailed, match="no branch is checked out"):
        Repository(work).fetch()


def test_an_upstream_that_is_gone_is_told(upstream: Upstream, work: Path) -> None:
    git(upstream.author, "switch", "--quiet", "--create", "other")
    git(upstream.author, "push", "--quiet", "origin", "other")
    git(work, "fetch", "--quiet")
    git(work, "switch", "--quiet", "other")
    git(upstream.author, "push", "--quiet", "--delete", "origin", "other")
    with pytest.raises(GitFailed, match="the branch that other follows is not there any more"):
        Repository(work).fetch()
    git(work, "remote", "set-url", "origin", "/nowhere.git")

    with pytest.raises(GitFailed, match=r"git fetch: '/nowhere\.git' does not appear to be a git repository"):
        Repository(work).fetch()


def test_an_empty_repository_has_a_status_and_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIT_DIR")
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    (tmp_path / "x").write_text("x")

    repo = Repository(tmp_path)

    assert (repo.status().commit, repo.status().untracked, repo.log(limit=3)) == ("", ["x"], [])


def test_what_is_no_repository_of_its_own_is_refused(work: Path, tmp_path: Path) -> None:
    (work / "inside").mkdir()
    (tmp_path / "empty").mkdir()
    for path, reason in (
        (tmp_path / "nowhere", "is not there"),
        (tmp_path / "empty", "not a git repository"),
        (work / "inside", f"is only a folder of the repository {work}"),
        (tmp_path / "far" / "upstream.git", "this operation must be run in a work tree"),
    ):
        with pytest.raises(InvalidConfiguration) as refused:
            Repository(path)

        assert reason in refused.value.message


def test_a_machine_without_git_is_told(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(GitFailed, match="git cannot be run: no such file or directory; install it"):
        Repository(work)
