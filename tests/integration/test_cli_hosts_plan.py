"""The scripts of `hosts install`, run by a real shell."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from pathlib import Path

from llorch.cli.hosts_plan import CONFIG, LOOK, PROGRAM, found, receive


def sh(script: str, home: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    return subprocess.run(["sh", "-c", script], check=False, input=stdin, capture_output=True, env=env)


def test_what_is_received_is_there_as_a_whole_and_what_is_wrong_is_not(tmp_path: Path) -> None:
    good, bad = b"#!/bin/sh\n", b"#!/bin/s"
    script = receive(PROGRAM, sha256=hashlib.sha256(good).hexdigest(), mode="755")

    refused = sh(script, tmp_path, bad)
    nothing = list((tmp_path / ".local/bin").iterdir())
    accepted = sh(script, tmp_path, good)

    assert (refused.returncode, refused.stderr) == (1, b"what arrived is not what was sent\n")
    assert nothing == []
    assert accepted.returncode == 0, accepted.stderr
    assert (tmp_path / ".local/bin/llorch").read_bytes() == good
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


def test_an_executable_that_does_not_run_there_replaces_nothing(tmp_path: Path) -> None:
    sh(receive(PROGRAM, mode="755"), tmp_path, b"old")
    broken = b"#!/bin/sh\necho version GLIBC_2.99 not found >&2\nexit 1\n"

    refused = sh(receive(PROGRAM, mode="755", tried=True), tmp_path, broken)

    assert refused.returncode != 0
    assert refused.stderr == b"version GLIBC_2.99 not found\n"
    assert [file.read_bytes() for file in (tmp_path / ".local/bin").iterdir()] == [b"old"]
