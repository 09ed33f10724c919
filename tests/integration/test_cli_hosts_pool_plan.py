"""The scripts that end a host's pool and start it, run by a real shell among real processes."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from llorch.cli import hosts_plan as plan
from llorch.cli import hosts_pool_plan as pool_plan
from llorch.cli import hosts_purge
from tests.support.ended import end_all_of, pid_ended

GONE = 4_194_305
"""No process has this number."""
STAYS = 'echo $$ >>"$HOME/started"\ntrap "exit 0" TERM\nwhile :; do sleep 0.05; done\n'
ENDS = """case "$*" in
  "serve pool") echo "llorch: another pool uses it" >&2; exit 1;;
  *) while kill -0 "$(cat "$HOME/.local/share/llorch/pool.pid")" 2>/dev/null; do sleep 0.05; done; echo '{}';;
esac
"""
HOLDER = """import fcntl, sys
lock = open(sys.argv[1], "ab")
fcntl.flock(lock, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Return a home; end what was started there."""
    home = tmp_path / "a home"
    home.mkdir()
    yield home
    end_all_of(home)


def place(home: Path, path: str) -> Path:
    """Return what the shell there takes a path for, in a folder that is there."""
    found = Path(path.replace("$HOME", str(home)))
    found.parent.mkdir(parents=True, exist_ok=True)
    return found


def environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": "/usr/bin:/bin", "LLORCH_WORKER_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def program(home: Path, script: str) -> None:
    """Have the host's llorch be this script of the shell."""
    file = place(home, plan.PROGRAM)
    file.write_text(f"#!/bin/sh\n{script}")
    file.chmod(0o755)


def sh(home: Path, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", script], check=False, env=environment(home), capture_output=True, text=True)


@contextmanager
def holding(home: Path, data: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that has a data directory to itself, and such words in its command line."""
    lock = place(home, f"{data}/lock")
    command = [sys.executable, "-c", HOLDER, str(lock), *words]
    with subprocess.Popen(
        command, env=environment(home), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_pool_that_was_started_by_hand_makes_room_for_the_new_one(home: Path) -> None:
    program(home, STAYS)
    configuration = '[pool]\nport = 0\ndata_dir = "~/the pool"\n'
    place(home, plan.CONFIG).write_text(configuration)
    data = plan.data_folder(configuration)
    command = [sys.executable, "-m", "llorch", "serve", "pool"]
    with subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, process_group=0) as by_hand:
        assert by_hand.stdout is not None
        by_hand.stdout.readline()
        holders = sh(home, f'{pool_plan.HOLDERS}\nholders "{data}"').stdout.split()
        started = sh(home, pool_plan.alone(data))

    assert holders == [str(by_hand.pid)]
    assert (started.returncode, started.stderr, by_hand.returncode) == (0, "", 0)
    assert not pid_ended(int(place(home, plan.PID).read_text()))


def test_a_pool_with_other_data_goes_on(home: Path) -> None:
    program(home, STAYS)
    with holding(home, "$HOME/another", "llorch serve pool") as other:
        started = sh(home, pool_plan.alone(plan.DATA))
        goes_on = other.poll() is None

    assert (started.returncode, started.stderr, goes_on) == (0, "", True)
    assert not pid_ended(int(place(home, plan.PID).read_text()))


def test_what_uses_the_data_and_is_no_pool_is_named_and_neither_ended_nor_robbed_of_it(home: Path) -> None:
    program(home, STAYS)
    model = place(home, f"{plan.DATA}/models/m.gguf")
    model.write_text("x")
    there = hosts_purge.found(sh(home, hosts_purge.LOOK).stdout)
    with holding(home, plan.DATA, "pool models download") as other:
        tries = [
            sh(home, script)
            for script in (
                pool_plan.alone(plan.DATA),
                pool_plan.under_launchd(plan.DATA),
                pool_plan.under_systemd(plan.DATA),
                hosts_purge.script(hosts_purge.removal(there), data=plan.DATA),
                hosts_purge.script(hosts_purge.removal(there), data="/srv/elsewhere"),
            )
        ]
        goes_on = other.poll() is None

    for refused in tries:
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"process {other.pid} there is using the pool's data directory: ")
        assert refused.stderr.endswith("pool models download\n")
    assert goes_on
    assert (model.exists(), place(home, plan.PROGRAM).exists()) == (True, True)
    assert not (home / "started").exists()


def test_a_pool_that_was_started_by_hand_ends_before_its_data_goes(home: Path) -> None:
    program(home, STAYS)
    there = hosts_purge.found(sh(home, hosts_purge.LOOK).stdout)
    with holding(home, plan.DATA, "llorch serve pool") as by_hand:
        purged = sh(home, hosts_purge.script(hosts_purge.removal(there), data=plan.DATA))
        ended = by_hand.wait()

    assert (purged.returncode, purged.stderr, ended) == (0, "", -15)
    assert list(home.iterdir()) == []


def test_of_several_that_start_a_pool_at_once_one_pool_is_left_and_it_is_the_one_that_is_noted(home: Path) -> None:
    program(home, STAYS)
    scripts = [
        subprocess.Popen(["sh", "-c", pool_plan.alone(plan.DATA)], env=environment(home), stderr=subprocess.PIPE)
        for _ in range(5)
    ]
    said = [script.communicate()[1] for script in scripts]
    noted = int(place(home, plan.PID).read_text())
    left = [
        process.pid
        for process in psutil.process_iter()
        if process.ppid() == 1 or process.pid == noted
        if str(place(home, plan.PROGRAM)) in _words(process)
    ]

    assert [(script.returncode, words) for script, words in zip(scripts, said, strict=True)] == [(0, b"")] * 5
    assert left == [noted]
    assert not place(home, pool_plan.LOCK).is_symlink()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_lock_that_a_killed_command_has_left_is_in_nobodys_way(home: Path) -> None:
    program(home, STAYS)
    place(home, pool_plan.LOCK).symlink_to(str(GONE))

    started = sh(home, pool_plan.alone(plan.DATA))

    assert (started.returncode, started.stderr) == (0, "")
    assert not place(home, pool_plan.LOCK).is_symlink()


def test_a_pool_that_ends_at_once_is_told_with_its_reason_although_another_one_answers(home: Path) -> None:
    program(home, ENDS)

    started = sh(home, pool_plan.alone(plan.DATA))
    told = sh(home, pool_plan.status_of_alone("")).stdout.splitlines()[-1]
    place(home, pool_plan.LOCK).symlink_to(str(os.getpid()))
    meanwhile = sh(home, pool_plan.status_of_alone("")).stdout.strip()

    assert started.returncode == 0, started.stderr
    assert told == "ended: llorch: another pool uses it"
    assert meanwhile == "", "another command is about to start one"


@pytest.mark.skipif(shutil.which("lsof") is None, reason="there is no lsof here")
def test_who_holds_a_data_directory_is_known_without_proc(home: Path) -> None:
    lock = place(home, f"{plan.DATA}/lock")
    elsewhere = pool_plan.HOLDERS.replace("/proc/", "/no/")
    nobody = sh(home, f'{elsewhere}\nholders "{plan.DATA}"')
    with lock.open("ab") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        we = sh(home, f'set -e\n{elsewhere}\nholders "{plan.DATA}"')
    free = sh(home, f'set -e\n{elsewhere}\nholders "{plan.DATA}"\necho done')

    assert (nobody.returncode, nobody.stdout) == (0, "")
    assert (we.returncode, we.stdout.split()) == (0, [str(os.getpid())])
    assert (free.returncode, free.stdout) == (0, "done\n")
