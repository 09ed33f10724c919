"""The scripts for a Mac, run by real shells that find what macOS has and nothing else.

launchd is not there: a loop takes its place, which starts the pool again when it has ended.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from llorch.cli import hosts_plan as plan
from llorch.cli import hosts_pool_plan as pool_plan
from llorch.cli import hosts_purge
from tests.e2e.processes import until
from tests.support.ended import end_all_of, pid_ended

TOOLS = (
    *(
        "basename",
        "cat",
        "chmod",
        "cp",
        "cut",
        "dirname",
        "du",
        "env",
        "grep",
        "id",
        "ln",
        "ls",
        "mkdir",
        "mv",
        "nohup",
        "pgrep",
        "ps",
    ),
    *("readlink", "rm", "rmdir", "sed", "sh", "shasum", "sleep", "tail", "touch", "tr", "uname", "wc"),
)
PROGRAM = """#!/bin/sh
echo $$ >>"$HOME/started"
trap 'exit 0' TERM
while :; do sleep 0.05; done
"""
WORKER = "8f2b9c66-1111-4222-8333-944444444444"
LAUNCHD = 'while :; do "$HOME/.local/bin/llorch" serve pool; done'
SHELLS = [["dash", "-c"], ["bash", "--posix", "-c"], ["zsh", "--emulate", "sh", "-c"]]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Return a home on a Mac, with a program of ours; end what was started there."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"there is no {name} here")
        (tools / name).symlink_to(found)
    home = tmp_path / "a home"
    program = home / ".local/bin/llorch"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM)
    program.chmod(0o755)
    yield home
    end_all_of(home)


def done(home: Path, script: str, *, shell: list[str], stdin: bytes = b"") -> str:
    """Run a script there; return what it says."""
    if shutil.which(shell[0]) is None:
        pytest.skip(f"there is no {shell[0]} here")
    env = {"HOME": str(home), "PATH": str(home.parent / "bin")}
    script = script.replace("/Library/LaunchDaemons", str(home / "daemons"))
    command = [shutil.which(shell[0]) or "", *shell[1:], script]
    return subprocess.run(command, check=True, env=env, input=stdin, stdout=subprocess.PIPE).stdout.decode()


def given_to_launchd(home: Path) -> None:
    """Write the file by which a Mac's owner has launchd keep the pool running."""
    (home / "daemons").mkdir()
    (home / "daemons" / Path(plan.DAEMON).name).touch()


async def begun(home: Path, *, times: int) -> list[int]:
    """Return the processes that the pool has been, once it has been started so many times."""

    async def enough() -> bool:
        file = home / "started"
        return file.exists() and file.read_text().count("\n") >= times

    await until(enough)
    return [int(line) for line in (home / "started").read_text().split()]


def place(home: Path, path: str) -> Path:
    """Return what the shell there takes a path for."""
    return Path(path.replace("$HOME", str(home)))


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_a_mac_tells_whether_launchd_has_its_pool(home: Path, shell: list[str]) -> None:
    before = plan.found(done(home, plan.LOOK, shell=shell))
    given_to_launchd(home)
    after = plan.found(done(home, plan.LOOK, shell=shell))

    assert (before.launchd, after.launchd) == (False, True)
    assert (before.systemd, len(before.sha256), before.configuration) == (False, 64, None)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
async def test_a_pool_that_launchd_has_is_ended_and_launchd_starts_it_again(home: Path, shell: list[str]) -> None:
    launchd = subprocess.Popen(["/bin/sh", "-c", LAUNCHD], env={**os.environ, "HOME": str(home)})
    try:
        [first] = await begun(home, times=1)
        await asyncio.to_thread(done, home, pool_plan.under_launchd(plan.DATA), shell=shell)
        gone = pid_ended(first)
        again = await begun(home, times=2)
    finally:
        launchd.kill()
        launchd.wait()

    assert gone
    assert len(again) == 2


def test_without_launchd_a_pool_has_a_group_of_its_own_and_the_next_one_ends_it(home: Path) -> None:
    done(home, pool_plan.alone(plan.DATA), shell=SHELLS[1])
    first = int(place(home, plan.PID).read_text())
    groups = os.getpgid(first), os.getpgid(0)
    done(home, pool_plan.alone(plan.DATA), shell=SHELLS[1])
    second = int(place(home, plan.PID).read_text())

    assert groups[0] == first != groups[1]
    assert pid_ended(first)
    assert not pid_ended(second)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_a_mac_is_emptied_after_its_workers_have_ended(home: Path, shell: list[str]) -> None:
    records = place(home, plan.DATA) / "workers"
    records.mkdir(parents=True)
    worker = subprocess.Popen(
        ["/bin/sh", "-c", "while :; do sleep 0.05; done", WORKER], env={"HOME": str(home)}, process_group=0
    )
    (records / f"{WORKER}.json").write_text(f'{{"pid":{worker.pid}}}')
    waiting = Thread(target=worker.wait)  # as its pool would, or who takes its place
    waiting.start()
    there = hosts_purge.found(done(home, hosts_purge.LOOK, shell=shell))

    what = hosts_purge.removal(there)
    done(home, hosts_purge.script(what, data=plan.DATA), shell=shell)

    waiting.join()
    assert there.program
    assert worker.returncode == -signal.SIGTERM
    assert [path for path in (plan.PROGRAM, plan.DATA) if place(home, path).exists()] == []


def test_a_mac_whose_pool_launchd_would_start_again_is_left_as_it_is(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given_to_launchd(home)
    there = hosts_purge.found(done(home, hosts_purge.LOOK, shell=SHELLS[0]))

    with pytest.raises(subprocess.CalledProcessError):
        done(home, hosts_purge.script(hosts_purge.removal(there), data="/no"), shell=SHELLS[0])

    assert "first, there: sudo launchctl bootout system/llorch.pool && sudo rm " in capfd.readouterr().err
    assert place(home, plan.PROGRAM).exists()


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_a_configuration_that_is_a_link_stays_one_and_keeps_its_mode(home: Path, shell: list[str]) -> None:
    config = place(home, plan.CONFIG)
    real = home / "my files/llorch.toml"
    for folder in (config.parent, real.parent):
        folder.mkdir(parents=True)
    real.write_text("before, and longer than after")
    real.chmod(0o640)
    (home / "between").symlink_to("my files")
    config.symlink_to("../../between/llorch.toml")

    done(home, plan.rewrite(plan.CONFIG), shell=shell, stdin=b"after")

    assert (config.is_symlink(), real.read_text(), real.stat().st_mode & 0o777) == (True, "after", 0o640)
    assert list(real.parent.iterdir()) == [real]


def test_a_configuration_is_written_for_its_owner_alone_also_through_a_link_to_nothing(home: Path) -> None:
    config = place(home, plan.CONFIG)
    done(home, plan.rewrite(plan.CONFIG), shell=SHELLS[0], stdin=b"one")
    first = config.read_text(), config.stat().st_mode & 0o777
    config.unlink()
    config.symlink_to(home / "elsewhere/llorch.toml")
    done(home, plan.rewrite(plan.CONFIG), shell=SHELLS[0], stdin=b"two")
    second = config.read_text(), config.stat().st_mode & 0o777

    assert (first, second) == (("one", 0o600), ("two", 0o600))
    assert config.is_symlink()


def test_a_configuration_that_links_to_itself_is_told(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = place(home, plan.CONFIG)
    config.parent.mkdir(parents=True)
    config.symlink_to(config)

    with pytest.raises(subprocess.CalledProcessError):
        done(home, plan.rewrite(plan.CONFIG), shell=SHELLS[0], stdin=b"x")

    assert "llorch.toml is a link that leads nowhere" in capfd.readouterr().err


def test_what_runs_is_known_without_proc(home: Path) -> None:
    with subprocess.Popen(["/bin/sh", "-c", "read x", "llorch serve pool"], stdin=subprocess.PIPE) as process:
        elsewhere = pool_plan.WORDS.replace("/proc/", "/no/")
        seen = done(home, f"{elsewhere}\nwords {process.pid}", shell=SHELLS[0])
        process.communicate()

    assert "llorch serve pool" in seen
