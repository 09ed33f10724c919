"""`llorch pool git` as a person and a script run it: here, on another host by ssh, on a terminal that asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.processes import program, run
from tests.e2e.terminal import terminal
from tests.support.prompt import prompt
from tests.support.repositories import ENVIRONMENT, Upstream, commit, git
from tests.support.sshd import ssh_host, why_not


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    """A repository, cloned to `work`, which is the configured one."""
    made = Upstream(tmp_path / "far")
    work = made.clone(tmp_path / "work")
    (tmp_path / "llorch.toml").write_text(f'[pool]\ngit_repo = "{work}"\n')
    return made


def environment(folder: Path) -> dict[str, str]:
    """Return what makes llorch and git use what is in *folder*."""
    return {**ENVIRONMENT, "LLORCH_CONFIG": str(folder / "llorch.toml")}


async def test_every_command_tells_as_text_and_as_json(upstream: Upstream, tmp_path: Path) -> None:
    env, work = environment(tmp_path), tmp_path / "work"
    newest = upstream.push({"new": "x"}, "Go on")
    async with prompt(env) as run:
        pulled = await run("pool", "git", "pull", "--json")
        (work / "left").write_text("x")
        shown = await run("pool", "git", "status")
        status = await run("pool", "git", "status", "--json")
        log = await run("pool", "git", "log", "--limit", "1", "--json")
        branches = await run("pool", "git", "branches")
        submodules = await run("pool", "git", "submodules", "--json")

    assert [one["commit"] for one in json.loads(pulled.stdout)["commits"]] == [newest]
    assert shown.stdout.splitlines()[0].endswith("· main · " + newest[:10] + " · level with origin/main")
    assert shown.stdout.splitlines()[-1].split() == ["left", "not", "tracked"]
    assert json.loads(status.stdout)["untracked"] == ["left"]
    assert [one["subject"] for one in json.loads(log.stdout)["commits"]] == ["Go on"]
    assert branches.stdout.splitlines()[1].split()[:4] == ["*", "main", newest[:10], "origin/main"]
    assert json.loads(submodules.stdout) == {"submodules": []}
    assert {one.stderr for one in (shown, status, log, branches, submodules)} == {""}


async def test_nothing_is_lost_without_an_answer_or_force(upstream: Upstream, tmp_path: Path) -> None:
    env, work = environment(tmp_path), tmp_path / "work"
    commit(work, {"mine": "x"}, "Mine")
    (work / "left").write_text("x")
    async with prompt(env) as run:
        refused = [await run("pool", "git", command) for command in ("sync", "clean")]
        kept = git(work, "log", "-1", "--format=%s"), (work / "left").exists()
        synced = await run("pool", "git", "sync", "--force", "--json")
        cleaned = await run("pool", "git", "clean", "--force")
        nothing = [await run("pool", "git", command) for command in ("sync", "clean")]

    assert [one.status for one in refused] == [2, 2]
    assert all("nobody can be asked whether to drop this: give --force" in one.stderr for one in refused)
    assert "commits that were not pushed:\n  " in refused[0].stderr
    assert "files that git does not track:\n  left\n" in refused[1].stderr
    assert kept == ("Mine", True)
    assert [one["subject"] for one in json.loads(synced.stdout)["lost"]["commits"]] == ["Mine"]
    assert cleaned.stdout == "left\n"
    assert not (work / "left").exists()
    assert [one.status for one in nothing] == [0, 0]


async def test_a_terminal_shows_what_would_go_and_asks(upstream: Upstream, tmp_path: Path) -> None:
    env, work = environment(tmp_path), tmp_path / "work"
    (work / "readme").write_text("changed\n")
    async with terminal("pool", "git", "sync", env=env) as shown:
        await shown.until(lambda seen: "[y/N]" in seen)
        shown.press(b"n\n")
        no = await shown.ended()
    left = (work / "readme").read_text()
    async with terminal("pool", "git", "sync", env=env) as shown:
        await shown.until(lambda seen: "[y/N]" in seen)
        shown.press(b"y\n")
        yes = await shown.ended()

    assert "  readme (modified)" in shown.lines
    assert (no, left) == (1, "changed\n")
    assert (yes, (work / "readme").read_text()) == (0, "first\n")


async def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "llorch.toml").write_text("")
    env = environment(tmp_path)
    async with prompt(env) as run:
        unnamed = await run("pool", "git", "status")
        none = await run("pool", "git", "status", "--repo", str(tmp_path))

    assert (unnamed.status, none.status) == (2, 2)
    assert unnamed.stderr == "llorch: no repository is named: set [pool] git_repo, or give --repo DIR\n"
    assert (none.stderr.count("\n"), "not a git repository" in none.stderr) == (1, True)


@pytest.mark.skipif(bool(why_not()), reason=why_not())
async def test_another_host_does_it_by_ssh_in_its_own_repository(upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "ours.toml").write_text('[hosts.far]\nurl = "http://127.0.0.1:1"\n')
    async with ssh_host(tmp_path / "ssh") as host:
        host.install(program(), environment(tmp_path))
        env = {**host.environment, "LLORCH_CONFIG": str(tmp_path / "ours.toml")}
        newest = upstream.push({"new": "x"}, "Go on")
        pulled = await run("pool", "git", "pull", "--host", "far", "--json", env=env)
        (tmp_path / "work" / "left").write_text("x")
        refused = await run("pool", "git", "clean", "--host", "far", env=env)
        over_http = await run("pool", "git", "status", "--host", "far", "--via", "http", env=env)

    assert (pulled.status, pulled.stderr) == (0, "")
    assert [one["commit"] for one in json.loads(pulled.stdout)["commits"]] == [newest]
    assert (refused.status, "give --force" in refused.stderr) == (2, True)
    assert (tmp_path / "work" / "left").exists()
    assert (over_http.status, over_http.stderr.count("\n")) == (2, 1)
    assert "ssh alone reaches" in over_http.stderr
