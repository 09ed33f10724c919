"""`hosts install` and `upgrade` through a real sshd: what they refuse in time, and what they tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llorch.cli import hosts_install
from llorch.cli.hosts_executable import OURS, Executable
from llorch.cli.remote import Target
from llorch.errors import InvalidConfiguration, TimeoutExceeded, Unreachable
from tests.e2e.processes import role
from tests.support.ended import end_all_of
from tests.support.sshd import SshHost, ssh_host, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
FAR = Target("far", "http://127.0.0.1:9", "far")
NOWHERE = "http://127.0.0.1:1"
STAYS = """#!/bin/sh
case "$1" in serve) trap "exit 0" TERM; while :; do sleep 0.05; done;; esac
"""
ENDS = """#!/bin/sh
case "$1" in serve) echo "llorch: the port is taken" >&2;; esac
"""


@pytest.fixture
async def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SshHost]:
    """Another host; what is started there ends."""
    async with ssh_host(tmp_path / "ssh") as ssh:
        monkeypatch.setenv("LLORCH_SSH", ssh.environment["LLORCH_SSH"])
        yield ssh
        end_all_of(ssh.home)


async def install(folder: Path, program: str, *, orchestrator: str = NOWHERE, token: str = "secret") -> None:
    """Install a program there."""
    file = folder / "executable"
    file.write_text(program)
    await asyncio.to_thread(
        hosts_install.install,
        FAR,
        Executable(file, OURS),
        orchestrator=orchestrator,
        insist=True,
        token=token,
        doing=lambda _: None,
    )


async def test_a_token_that_the_orchestrator_refuses_changes_nothing(far: SshHost, tmp_path: Path) -> None:
    serve = ("orchestrator", "--port", "0", "--data-dir", str(tmp_path / "orchestrator"))
    async with role(*serve, log=tmp_path / "log", env={"LLORCH_API_TOKEN": "right"}, token="right") as orchestrator:
        with pytest.raises(InvalidConfiguration, match=r"refuses this token; check LLORCH_API_TOKEN .* on far"):
            await install(tmp_path, STAYS, orchestrator=orchestrator.url, token="wrong")
        with pytest.raises(InvalidConfiguration, match="asks for a token; set LLORCH_API_TOKEN"):
            await install(tmp_path, STAYS, orchestrator=orchestrator.url, token="")

    assert list(far.home.iterdir()) == []


async def test_a_broken_configuration_is_refused_before_the_pool_is_touched(far: SshHost, tmp_path: Path) -> None:
    config = far.home / ".config/llorch/llorch.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[pool\n")
    said = r"the configuration of far \(.* there\) is not TOML: .*; nothing was changed there"
    with pytest.raises(InvalidConfiguration, match=said):
        await install(tmp_path, STAYS)
    executable = Executable(tmp_path / "executable", OURS)
    with pytest.raises(InvalidConfiguration, match=said):
        await asyncio.to_thread(hosts_install.upgrade, FAR, executable, doing=lambda _: None)

    assert config.read_text() == "[pool\n"
    assert list(far.home.iterdir()) == [far.home / ".config"]


async def test_a_pool_that_does_not_register_is_told_with_what_it_said_last(
    far: SshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts_install, "REGISTERED_S", 0.0)
    log = far.home / ".local/share/llorch/pool.log"
    log.parent.mkdir(parents=True)
    log.write_text("first\nregistration_failed\n")

    with pytest.raises(TimeoutExceeded, match="does not answer; it said last: registration_failed; its log: "):
        await install(tmp_path, STAYS)


async def test_a_pool_that_has_ended_is_told_at_once_with_its_reason(far: SshHost, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="the pool of far has ended: llorch: the port is taken; its log: "):
        await install(tmp_path, ENDS)
