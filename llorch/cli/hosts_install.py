"""Copies this executable to a host, starts its pool there, and waits until that has registered."""

from __future__ import annotations

import hashlib
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import llorch
from llorch import program
from llorch.cli import hosts_plan as plan
from llorch.cli.figures import size
from llorch.cli.remote import Target
from llorch.cli.remote_ssh import ask, converse
from llorch.errors import InvalidConfiguration, TimeoutExceeded
from llorch.wire.codec import decode_reply
from llorch.wire.pools import PoolStatus

BLOCK = 1 << 18
REGISTERED_S = 90.0
POLL_S = 0.5
UNIT_FILE = Path(llorch.__file__).resolve().parents[1] / "build" / "systemd" / "user" / "llorch-pool.service"


def install(host: Target, *, orchestrator: str, token: str, doing: Callable[[str], None]) -> PoolStatus:
    """Install llorch on *host* and start its pool; once it has registered, return what it is.

    Doing it again replaces the executable and restarts the pool, whose workers go on meanwhile. A configuration that
    the host has already stays.

    Args:
        host: Where; `url` is where the orchestrator will reach its pool.
        orchestrator: The URL that the pool registers with.
        token: What all of them share; empty is none.
        doing: Told what is going on.

    Raises:
        InvalidConfiguration: This is no executable that can be copied, the host is of another kind, or the settings
            would make a pool that nobody reaches or everybody uses.
        Unreachable: ssh, or a step on the host, failed.
        TimeoutExceeded: The pool has not registered.
    """
    if not program.frozen():
        raise InvalidConfiguration(
            "only the one-file executable can be copied to another host: `make exe`, then dist/llorch hosts install …"
        )
    settings = plan.pool_settings(host, orchestrator=orchestrator, token=token)
    doing("looking at the host …")
    there = plan.found(converse(host, plan.LOOK))
    plan.refuse_other_systems(host, theirs=there.system, ours=f"{platform.system()} {platform.machine()}")
    executable = Path(sys.executable)
    sha256 = _sha256(executable)
    if there.sha256 != sha256:
        sent = _blocks(executable, doing)
        converse(host, plan.receive(plan.PROGRAM, sha256=sha256, mode="755"), sent=sent)
    doing("configuring …")
    if token:
        converse(host, plan.receive(plan.TOKEN), sent=[token.encode()])
    if not there.configured:
        converse(host, plan.receive(plan.CONFIG), sent=[plan.toml(settings).encode()])
    doing("starting the pool …")
    if there.systemd:
        converse(host, plan.receive(plan.UNIT, mode="644"), sent=[UNIT_FILE.read_bytes()])
    converse(host, plan.UNDER_SYSTEMD if there.systemd else plan.ALONE)
    return _registered(host, doing, log="journalctl --user -u llorch-pool" if there.systemd else f"tail {plan.LOG}")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _blocks(file: Path, doing: Callable[[str], None]) -> Iterator[bytes]:
    total, done = file.stat().st_size, 0
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            doing(f"copying … {size(done)} of {size(total)}")
            yield block
            done += len(block)


def _registered(host: Target, doing: Callable[[str], None], *, log: str) -> PoolStatus:
    doing("waiting until the pool has registered …")
    give_up = time.monotonic() + REGISTERED_S
    status = None
    while time.monotonic() < give_up:
        told = ask(host, f'"{plan.PROGRAM}" pool status --json')
        if told:
            status = decode_reply(told.encode(), PoolStatus)
            if status.registered:
                return status
        time.sleep(POLL_S)
    what = "does not answer" if status is None else f"has not registered with {status.orchestrator or 'anything'}"
    raise TimeoutExceeded(f"the pool of {host.name} {what}; its log: llorch hosts exec {host.name} '{log}'")
