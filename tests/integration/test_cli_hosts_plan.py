"""The scripts of `hosts install`, run by a real shell."""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from llorch.cli.hosts_plan import ALONE, CONFIG, LOOK, MAY_LINGER, PROGRAM, VERSION, YES, found, receive, status_of
from llorch.cli.remote import Target, last_line
from llorch.cli.remote_ssh import ask, converse
from tests.support.sshd import ssh_host, why_not


def sh(script: str, home: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    return subprocess.run(["sh", "-c", script], check=False, input=stdin, capture_output=True, env=env)


def test_what_is_received_is_there_with_its_mode_and_nothing_beside_it(tmp_path: Path) -> None:
    accepted = sh(receive(PROGRAM, mode="755"), tmp_path, b"#!/bin/sh\n")

    assert accepted.returncode == 0, accepted.stderr
    assert [file.read_bytes() for file in (tmp_path / ".local/bin").iterdir()] == [b"#!/bin/sh\n"]
    assert (tmp_path / ".local/bin/llorch").stat().st_mode & 0o777 == 0o755


def test_a_host_tells_what_it_has(tmp_path: Path) -> None:
    before = found(sh(LOOK, tmp_path).stdout.decode())
    sh(receive(PROGRAM, mode="755"), tmp_path, b"x")
    sh(receive(CONFIG), tmp_path, b"[pool]\n# last")
    after = found(sh(LOOK, tmp_path).stdout.decode())

    assert before.system == f"{platform.system()} {platform.machine()}"
    assert (before.sha256, before.configuration) == ("", None)
    assert (after.sha256, after.configuration) == (hashlib.sha256(b"x").hexdigest(), "[pool]\n# last")
    assert (tmp_path / ".config/llorch/llorch.toml").stat().st_mode & 0o777 == 0o600


def test_what_a_pool_that_is_no_service_writes_is_for_its_user_alone(tmp_path: Path) -> None:
    sh(receive(PROGRAM, mode="755"), tmp_path, b"#!/bin/sh\nexit\n")
    folder = tmp_path / ".local/share/llorch"
    folder.mkdir(parents=True)
    (folder / "pool.log").touch(mode=0o644)

    started = sh(f"umask 022\n{ALONE}", tmp_path)

    assert started.returncode == 0, started.stderr
    assert {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()} == {
        "pool.log": 0o600,
        "pool.pid": 0o600,
    }


@pytest.mark.skipif(bool(why_not()), reason=why_not())
async def test_what_a_shell_prints_when_it_starts_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = Target("far", "", "far")
    may_linger = MAY_LINGER.replace("/var/lib/systemd/linger", str(tmp_path)).replace("loginctl", "false")
    async with ssh_host(tmp_path / "ssh") as ssh:
        monkeypatch.setenv("LLORCH_SSH", ssh.environment["LLORCH_SSH"])
        (ssh.home / ".bashrc").write_text("printf 'Welcome to far'")

        async def told(command: str, *, by: Callable[[Target, str], str] = ask) -> str:
            return await asyncio.to_thread(by, far, command)

        noise = await told("true", by=converse)
        no = await told(may_linger, by=converse)
        (tmp_path / getpass.getuser()).touch()
        yes = await told(may_linger, by=converse)
        looked = found(await told(LOOK, by=converse))
        nothing = await told(status_of(""))
        (ssh.home / ".local/bin").mkdir(parents=True)
        (ssh.home / ".local/bin/llorch").write_text("#!/bin/sh\necho '{}'")
        (ssh.home / ".local/bin/llorch").chmod(0o755)
        version, status = await told(VERSION), await told(status_of(""))

    if not noise:
        pytest.skip("the shell of this user reads no file when ssh starts it")
    assert (last_line(no), last_line(yes)) == ("Welcome to far", YES)
    assert looked.system == f"{platform.system()} {platform.machine()}"
    assert not last_line(nothing).startswith("{")
    assert (last_line(version), last_line(status)) == ("{}", "{}")
