"""An executable copied through a real sshd over a line that breaks, and the scripts that take it in a real shell."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from llorch.cli.hosts_copy import copy, sha256
from llorch.cli.hosts_copy_plan import INCOMPLETE, Part, best, look, parts, receive
from llorch.cli.remote import Target
from llorch.errors import Unreachable
from tests.e2e.processes import until
from tests.support.cutting import Line, line
from tests.support.sshd import SshHost, ssh_host, why_not

FAR = Target("far", "", "far")
needs_ssh = pytest.mark.skipif(bool(why_not()), reason=why_not())
RUNS, FAILS = b"#!/bin/sh\necho llorch 9\nexit\n", b"#!/bin/sh\necho version GLIBC_2.99 not found >&2\nexit 1\n"
MIB = 1 << 20


@pytest.fixture
def executable(tmp_path: Path) -> Path:
    """Return eight MiB that run."""
    file = tmp_path / "executable"
    file.write_bytes(RUNS + Random(7).randbytes(8 * MIB))
    return file


@asynccontextmanager
async def behind_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[SshHost, Line]]:
    """Have a host that is reached over a line."""
    async with ssh_host(folder) as ssh, line(f"http://127.0.0.1:{ssh.port}") as wire:
        port = int(wire.url.rpartition(":")[2])
        ssh.client(port=port)
        ssh.know("host", port=port)
        monkeypatch.setenv("LLORCH_SSH", ssh.environment["LLORCH_SSH"])
        yield ssh, wire


def arrived(ssh: SshHost) -> list[int]:
    """Return the sizes of what there is of executables that have not arrived as a whole."""
    return [part.stat().st_size for part in (ssh.home / ".local/bin").glob(".llorch.*")]


async def cut_when_it_hangs(ssh: SshHost, wire: Line) -> None:
    """Break the line once something has arrived over the connection that hangs."""

    async def something() -> bool:
        return wire.stuck_after_bytes is None and any(size > MIB for size in arrived(ssh))

    await until(something)
    wire.cut()


@needs_ssh
async def test_a_copy_that_breaks_goes_on_from_what_has_arrived(
    tmp_path: Path, executable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llorch.cli.hosts_copy.AGAIN_S", 0.01)
    told: list[str] = []
    async with behind_a_line(tmp_path / "ssh", monkeypatch) as (ssh, wire):
        (ssh.home / ".local/bin").mkdir(parents=True)
        wire.stuck_after_bytes = 3 * MIB
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(copy, executable, FAR, digest=sha256(executable), doing=told.append))
            await cut_when_it_hangs(ssh, wire)
        files = [path.name for path in (ssh.home / ".local/bin").iterdir()]
        copied = (ssh.home / ".local/bin/llorch").read_bytes()

    assert files == ["llorch"]
    assert copied == executable.read_bytes()
    assert len(wire.carried) == 4, "look, a copy that breaks, look, the rest"
    assert wire.carried[3] < 7.1 * MIB, "all was sent again"
    assert "the connection to far was lost, trying again …" in told
    assert "MiB were there" in told[-1]


@needs_ssh
async def test_what_a_copy_that_was_given_up_has_left_is_what_the_next_one_goes_on_from(
    tmp_path: Path, executable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llorch.cli.hosts_copy.AGAIN_S", 0.01)
    digest, half = sha256(executable), 5 * MIB
    told: list[str] = []
    async with behind_a_line(tmp_path / "ssh", monkeypatch) as (ssh, wire):
        folder = ssh.home / ".local/bin"
        folder.mkdir(parents=True)
        (folder / f".llorch.{digest[:16]}.7.part").write_bytes(executable.read_bytes()[:half])
        (folder / f".llorch.{digest[:16]}.8.part").write_bytes(bytes(half + 1))
        (folder / ".llorch.0123456789abcdef.4194305.part").write_bytes(b"another, of a process that is gone")
        (folder / f".llorch.0123456789abcdef.{os.getpid()}.part").write_bytes(b"another, that is on its way")
        ssh.client(port=1)
        with pytest.raises(Unreachable, match="what has arrived is kept on far, and the same command goes on from"):
            await asyncio.to_thread(copy, executable, FAR, digest=digest, doing=told.append)
        kept = len(arrived(ssh))
        ssh.client(port=int(wire.url.rpartition(":")[2]))
        await asyncio.to_thread(copy, executable, FAR, digest=digest, doing=told.append)
        files = sorted(path.name for path in folder.iterdir())
        copied = (folder / "llorch").read_bytes()

    assert kept == 4
    assert files == [f".llorch.0123456789abcdef.{os.getpid()}.part", "llorch"]
    assert copied == executable.read_bytes()
    assert wire.carried[1] < 3.2 * MIB
    assert ", 5.0 MiB were there" in told[-1]


def sh(script: str, home: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    return subprocess.run(["sh", "-c", script], check=False, input=stdin, capture_output=True, env=env)


def test_too_little_is_kept_what_is_wrong_is_not_and_what_is_right_is_in_place(tmp_path: Path) -> None:
    digest = hashlib.sha256(RUNS).hexdigest()

    wrong = sh(receive(digest, size_bytes=len(RUNS), begin=None), tmp_path, RUNS[:-1] + b"!")
    left_of_it = parts(sh(look(digest), tmp_path).stdout.decode())
    too_little = sh(receive(digest, size_bytes=len(RUNS), begin=None), tmp_path, RUNS[:9])
    [begin] = parts(sh(look(digest), tmp_path).stdout.decode())
    right = sh(receive(digest, size_bytes=len(RUNS), begin=begin), tmp_path, RUNS[9:])

    assert (too_little.returncode, begin) == (INCOMPLETE, Part(9, hashlib.sha256(RUNS[:9]).hexdigest(), begin.name))
    assert (wrong.returncode, wrong.stderr) == (1, b"what arrived is not what was sent\n")
    assert left_of_it == []
    assert right.returncode == 0, right.stderr
    [there] = (tmp_path / ".local/bin").iterdir()
    assert (there.name, there.read_bytes(), there.stat().st_mode & 0o777) == ("llorch", RUNS, 0o755)


def test_an_executable_that_does_not_run_there_replaces_nothing(tmp_path: Path) -> None:
    sh(receive(hashlib.sha256(RUNS).hexdigest(), size_bytes=len(RUNS), begin=None), tmp_path, RUNS)

    refused = sh(receive(hashlib.sha256(FAILS).hexdigest(), size_bytes=len(FAILS), begin=None), tmp_path, FAILS)

    assert refused.returncode != 0
    assert refused.stderr == b"version GLIBC_2.99 not found\n"
    assert [file.read_bytes() for file in (tmp_path / ".local/bin").iterdir()] == [RUNS]


def test_a_copy_that_another_one_has_overtaken_is_content(tmp_path: Path) -> None:
    digest = hashlib.sha256(RUNS).hexdigest()
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    script = receive(digest, size_bytes=len(RUNS), begin=None)
    with subprocess.Popen(["sh", "-c", script], env=env, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as slow:
        assert slow.stdin is not None
        slow.stdin.write(RUNS[:9])
        slow.stdin.flush()
        while not (begin := parts(sh(look(digest), tmp_path).stdout.decode())):
            pass
        fast = sh(receive(digest, size_bytes=len(RUNS), begin=begin[0]), tmp_path, RUNS[9:])
        _, said = slow.communicate(RUNS[9:])

    assert (fast.returncode, slow.returncode, said) == (0, 0, b"")
    assert [file.read_bytes() for file in (tmp_path / ".local/bin").iterdir()] == [RUNS]


OVERTAKING = b"""#!/bin/sh
case "$0" in *.part) cp "$0" "$HOME/.local/bin/llorch"; rm "$0"; echo "$0 has been deleted" >&2; exit 1;; esac
"""
"""As if another copy of the same were done just when this one is asked for its version."""


def test_a_copy_that_is_overtaken_when_it_is_tried_is_content(tmp_path: Path) -> None:
    done = sh(
        receive(hashlib.sha256(OVERTAKING).hexdigest(), size_bytes=len(OVERTAKING), begin=None), tmp_path, OVERTAKING
    )

    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == [OVERTAKING]


@pytest.mark.parametrize("there", [RUNS, FAILS], ids=["the same", "another"])
def test_a_copy_whose_part_is_gone_is_content_only_if_the_same_is_in_place(tmp_path: Path, there: bytes) -> None:
    digest = hashlib.sha256(RUNS).hexdigest()
    sh(receive(digest, size_bytes=len(RUNS), begin=None), tmp_path, RUNS)
    (tmp_path / ".local/bin/llorch").write_bytes(there)
    lost = [
        Part(9, hashlib.sha256(RUNS[:9]).hexdigest(), f".llorch.{digest[:16]}.{n}.part") for n in (GONE, os.getpid())
    ]
    told = [sh(receive(digest, size_bytes=len(RUNS), begin=part), tmp_path, RUNS[9:]) for part in lost]
    before = receive(digest, size_bytes=len(RUNS), begin=None)
    told.append(sh(before.replace("trap '", 'rm "$f"\ntrap \''), tmp_path, RUNS))

    assert [done.returncode for done in told] == [0 if there == RUNS else 1] * 3
    assert told[2].stderr == (b"" if there == RUNS else b"what arrived is not what was sent\n")
    assert contents(tmp_path) == [there]


GONE = 4_194_305
"""No process has this number."""
LARGE = RUNS + Random(3).randbytes(16 * 1024)
LARGE_SHA256 = hashlib.sha256(LARGE).hexdigest()


def left_by(owner: str, home: Path, content: bytes) -> Path:
    """Leave a part of the large executable there."""
    folder = home / ".local/bin"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".llorch.{LARGE_SHA256[:16]}.{owner}.part"
    part.write_bytes(content)
    return part


def go_on(home: Path, *, limit: str = "") -> tuple[int, int]:
    """Look and send the rest, as a copy does; return the status and with how many bytes it began."""
    begin = best(
        parts(sh(look(LARGE_SHA256), home).stdout.decode()),
        size_bytes=len(LARGE),
        sha256_of=lambda count: hashlib.sha256(LARGE[:count]).hexdigest(),
    )
    there = begin.size_bytes if begin else 0
    done = sh(limit + receive(LARGE_SHA256, size_bytes=len(LARGE), begin=begin), home, LARGE[there:])
    return done.returncode, there


def contents(home: Path) -> list[bytes]:
    return [file.read_bytes() for file in (home / ".local/bin").iterdir()]


@pytest.mark.parametrize(
    "owner",
    [str(GONE), f"from.{GONE}", f"from.{os.getpid()}", str(os.getpid())],
    ids=["gone", "gone while copying", "alive while copying", "alive"],
)
def test_a_copy_goes_on_from_a_part_under_whatever_name_it_was_left(tmp_path: Path, owner: str) -> None:
    left_by(owner, tmp_path, LARGE[:9000])
    left_by(f"from.{GONE + 1}", tmp_path, b"what was being copied when its session ended")

    done = go_on(tmp_path)

    assert done == (0, 9000)
    assert contents(tmp_path) == [LARGE]


@pytest.mark.parametrize("owner", [str(GONE), str(os.getpid())], ids=["gone", "alive"])
def test_a_copy_that_finds_no_room_leaves_what_the_next_one_goes_on_from(tmp_path: Path, owner: str) -> None:
    left_by(owner, tmp_path, LARGE[:9000])

    full = go_on(tmp_path, limit="ulimit -f 4\n")
    parts_then = len(contents(tmp_path))
    room = go_on(tmp_path)

    assert full[0] != 0
    assert parts_then == 1, "a second part takes room for nothing"
    assert room == (0, 9000)
    assert contents(tmp_path) == [LARGE]


def test_what_a_process_that_is_gone_has_left_is_continued_in_place(tmp_path: Path) -> None:
    part = left_by(str(GONE), tmp_path, LARGE[:9000] + b"more that has come after it was looked at")
    inode = part.stat().st_ino
    begin = Part(9000, hashlib.sha256(LARGE[:9000]).hexdigest(), part.name)

    done = sh(receive(LARGE_SHA256, size_bytes=len(LARGE), begin=begin), tmp_path, LARGE[9000:])

    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == [LARGE]
    assert (tmp_path / ".local/bin/llorch").stat().st_ino == inode


@pytest.mark.parametrize("content", [b"rubbish that is in the way", LARGE[:9000]])
def test_a_part_of_a_process_with_our_own_number_is_ours(tmp_path: Path, content: bytes) -> None:
    tag = LARGE_SHA256[:16]
    begin = Part(9000, hashlib.sha256(LARGE[:9000]).hexdigest(), f".llorch.{tag}.PID.part")
    right = content == LARGE[:9000]
    script = receive(LARGE_SHA256, size_bytes=len(LARGE), begin=begin if right else None).replace(".PID.", ".$$.")
    put = f'mkdir -p "$HOME/.local/bin"; cp "$HOME/part" "$HOME/.local/bin/.llorch.{tag}.$$.part"\n'
    (tmp_path / "part").write_bytes(content)

    done = sh(put + script, tmp_path, LARGE[9000:] if right else LARGE)

    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == [LARGE]
