"""Copies an executable to a host, starts or restarts its pool there, and waits until that has registered."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import llorch
from llorch.cli import hosts_plan as plan
from llorch.cli import hosts_pool_plan as pool_plan
from llorch.cli.hosts_copy import Doing, copy, sha256
from llorch.cli.hosts_executable import Executable
from llorch.cli.remote import Target, last_line
from llorch.cli.remote_ssh import ask, converse
from llorch.client import Client
from llorch.errors import InvalidConfiguration, RemoteError, TimeoutExceeded, Unreachable
from llorch.wire.codec import decode_reply
from llorch.wire.meta import Version
from llorch.wire.pools import PoolStatus

REGISTERED_S = 90.0
POLL_S = 0.5
ANSWER_S = 5.0
UNIT_FILE = Path(llorch.__file__).resolve().parents[1] / "build" / "systemd" / "user" / "llorch-pool.service"


@dataclass(frozen=True, slots=True)
class Started:
    """A pool that has registered; `kept_out` says why it is no service, where it could be one."""

    pool: PoolStatus
    kept_out: str


@dataclass(frozen=True, slots=True)
class Installed:
    """What `install` and `upgrade` did.

    `before` is the version that was there, empty if there was none or nobody asked; `replaced` tells whether the
    executable there was another one; `orchestrator_kept` is the other orchestrator that the host goes on registering
    with, empty for none at all, None if there is no such thing; `kept_out` says why its pool is no service, where it
    could be one.
    """

    pool: PoolStatus
    kept_out: str
    before: str = ""
    replaced: bool = True
    orchestrator_kept: str | None = None


def install(
    host: Target, executable: Executable, *, orchestrator: str, insist: bool, token: str, doing: Doing
) -> Installed:
    """Install llorch on *host* and start its pool; return what it is once it has registered.

    Doing it again replaces the executable and restarts the pool, whose workers go on meanwhile. A configuration that
    the host has already stays, but for the orchestrator.

    Args:
        host: Where; `url` is where the orchestrator will reach its pool.
        executable: What is copied there.
        orchestrator: The URL that the pool registers with.
        insist: Write it into a configuration that is there already and names another one.
        token: What all of them share; empty is none.
        doing: Told what is going on.

    Raises:
        InvalidConfiguration: The executable is for hosts of another kind, the settings would make a pool that nobody
            reaches or everybody uses, those on the host are broken, or the orchestrator refuses the token.
        Unreachable: ssh, or a step on the host, failed.
        TimeoutExceeded: The pool has not registered.
    """
    settings = plan.pool_settings(host, orchestrator=orchestrator, token=token)
    there = _look(host, executable, doing)
    other = plan.other_orchestrator(there.configuration, wanted=orchestrator)
    if there.configuration is None:
        configuration = f"{plan.WRITTEN_BY_US}\n\n{plan.toml(settings)}"
    elif insist and other is not None:
        configuration = plan.reconfigured(host, there.configuration, orchestrator=orchestrator)
    else:
        configuration = there.configuration
    asked = plan.to_be_asked(there, configuration, token=token, our_name=os.uname().nodename)
    if asked and asyncio.run(_refused(asked, token)):
        raise InvalidConfiguration(plan.refusal(host, orchestrator=asked, token=token))
    replaced = _copy(host, executable, there, doing)
    doing("configuring …")
    if token:
        converse(host, plan.receive(plan.TOKEN), sent=[token.encode()])
    if configuration != there.configuration:
        converse(host, plan.rewrite(plan.CONFIG), sent=[configuration.encode()])
    started = _start(host, there, configuration, doing)
    kept = None if insist else other
    return Installed(started.pool, started.kept_out, replaced=replaced, orchestrator_kept=kept)


def upgrade(host: Target, executable: Executable, *, doing: Doing) -> Installed:
    """Bring what `install` has put on *host* to this version; running jobs go on, and the new pool has their workers.

    Raises:
        InvalidConfiguration: As for `install`, or nothing is installed there.
        Unreachable: ssh, or a step on the host, failed.
        TimeoutExceeded: The pool has not registered again.
    """
    there = _look(host, executable, doing)
    if not there.sha256 or there.configuration is None:
        raise InvalidConfiguration(
            f"there is nothing to upgrade on {host.name}: llorch has not been installed there; "
            f"do so with: llorch hosts install {host.name}"
        )
    before = last_line(ask(host, plan.VERSION)).removeprefix("llorch ")
    replaced = _copy(host, executable, there, doing)
    started = _start(host, there, there.configuration, doing)
    return Installed(started.pool, started.kept_out, before=before, replaced=replaced)


def _look(host: Target, executable: Executable, doing: Doing) -> plan.Found:
    doing("looking at the host …")
    there = plan.found(converse(host, plan.LOOK))
    plan.refuse_other_systems(host, theirs=there.system, ours=executable.system)
    plan.refuse_broken(host, there.configuration or "")
    return there


async def _refused(orchestrator: str, token: str) -> bool:
    """Tell whether *orchestrator* refuses *token*; one that cannot be reached from here may be reached from there."""
    try:
        with suppress(Unreachable, TimeoutExceeded):
            async with Client(orchestrator, token=token, what="the orchestrator") as client:
                await client.send("GET", "/v2/meta/version", Version, timeout_s=ANSWER_S)
    except RemoteError as error:
        return error.status in {401, 403}
    return False


def _copy(host: Target, executable: Executable, there: plan.Found, doing: Doing) -> bool:
    """Copy the executable if the one there is another; tell whether it was."""
    digest = sha256(executable.path)
    if there.sha256 == digest:
        return False
    copy(executable.path, host, digest=digest, doing=doing)
    return True


def _start(host: Target, there: plan.Found, configuration: str, doing: Doing) -> Started:
    """Start the pool, or start it anew; return what it is once it has registered.

    Raises:
        Unreachable: A step failed, or the pool has ended.
        TimeoutExceeded: It has not registered.
    """
    doing("starting the pool …")
    kept_out, data = "", plan.data_folder(configuration)
    log, last_of_log = f"tail {plan.LOG}", pool_plan.last_of_log(plan.LOG)
    status_of = pool_plan.status_of(configuration)
    began = time.monotonic()
    if there.systemd and last_line(converse(host, plan.MAY_LINGER)) == plan.YES:
        converse(host, plan.receive(plan.UNIT, mode="644"), sent=[UNIT_FILE.read_bytes()])
        converse(host, pool_plan.under_systemd(data))
        log, last_of_log = "journalctl --user -u llorch-pool", pool_plan.LAST_OF_JOURNAL
    elif there.launchd:
        converse(host, pool_plan.under_launchd(data))
        log, last_of_log = f"tail {plan.DAEMON_LOG}", pool_plan.last_of_log(plan.DAEMON_LOG)
    else:
        converse(host, pool_plan.alone(data))
        kept_out = plan.kept_out(host, there)
        status_of = shlex.join(["sh", "-c", pool_plan.status_of_alone(configuration)])
    doing("waiting until the pool has registered …")
    where = f"its log: llorch hosts exec {host.name} '{log}'"
    give_up = time.monotonic() + REGISTERED_S
    what = "does not answer"
    while time.monotonic() < give_up:
        told = last_line(ask(host, status_of))
        if told.startswith(pool_plan.ENDED):
            raise Unreachable(f"the pool of {host.name} has {told}; {where}")
        if told.startswith("{"):
            status = decode_reply(told.encode(), PoolStatus)
            if not pool_plan.is_new(status, since_s=time.monotonic() - began):
                what = "does not answer, but another one that was there before"
            elif status.registered:
                return Started(status, kept_out)
            else:
                what = f"has not registered with {status.orchestrator or 'anything'}"
        time.sleep(POLL_S)
    said = last_line(ask(host, shlex.join(["sh", "-c", f"echo; {last_of_log}"])))
    raise TimeoutExceeded(f"the pool of {host.name} {what}{said and f'; it said last: {said}'}; {where}")
