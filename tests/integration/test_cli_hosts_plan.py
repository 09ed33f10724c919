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
