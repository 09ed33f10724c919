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
from llorch.cli.hosts_copy_plan import INCOMPLETE, Part, look, parts, receive
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

    too_little = sh(receive(digest, size_bytes=len(RUNS), begin=None), tmp_path, RUNS[:9])
    [begin] = parts(sh(look(digest), tmp_path).stdout.decode())
    wrong = sh(receive(digest, size_bytes=len(RUNS), begin=None), tmp_path, RUNS[:-1] + b"!")
    still = parts(sh(look(digest), tmp_path).stdout.decode())
    right = sh(receive(digest, size_bytes=len(RUNS), begin=begin), tmp_path, RUNS[9:])

    assert (too_little.returncode, begin) == (INCOMPLETE, Part(9, hashlib.sha256(RUNS[:9]).hexdigest(), begin.pid))
    assert (wrong.returncode, wrong.stderr) == (1, b"what arrived is not what was sent\n")
    assert still == [begin]
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
