"""The service files under a real systemd: readiness, watchdog, restarts that leave workers alone, removal."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llorch.cli import hosts_plan
from llorch.cli.hosts_purge import Found, removal, script
from tests.e2e.processes import program, until
from tests.support import systemd
from tests.support.systemd import Machine

WHY_NOT = "" if "LLORCH_EXE" in os.environ else "services run the executable: set LLORCH_EXE"
WHY_NOT = WHY_NOT or systemd.why_not()
pytestmark = [pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT), pytest.mark.slow, pytest.mark.timeout(300)]

ORCHESTRATOR = "http://127.0.0.1:8080"
POOL = "llorch-pool"
SETTINGS = f"""
[pool]
orchestrator = "{ORCHESTRATOR}"
pool_id = "here"

[worker]
threads = 1
"""
HASTE = "[Service]\nWatchdogSec=3\n"


@pytest.fixture(name="there")
async def _there(tmp_path: Path) -> AsyncIterator[Machine]:
    async with systemd.machine(tmp_path / "machine", Path(program()[0])) as machine:
        yield machine


async def workers(there: Machine, *way: str) -> list[tuple[int, str, bool]]:
    """Return process, status and whether it was taken over, of every worker of the pool."""
    told = json.loads(await there.do("llorch", "pool", "worker", "list", "--json", *way))
    return [(worker["pid"], worker["status"], worker["adopted"]) for worker in told["workers"]]


async def pools(there: Machine) -> list[tuple[str, str]]:
    """Return the orchestrator's pools."""
    told = json.loads(await there.do("llorch", "pool", "list", "--json", "--url", ORCHESTRATOR))
    return [(pool["pool_id"], pool["status"]) for pool in told["pools"]]


async def test_system_services_are_ready_are_watched_and_leave_their_workers_alone(there: Machine) -> None:
    share = "/usr/local/share/llorch"
    await there.do("systemd-sysusers", f"{share}/llorch.conf")
    await there.write("/etc/llorch/llorch.toml", SETTINGS)
    await there.write(f"/etc/systemd/system/{POOL}.service.d/haste.conf", HASTE)
    services = [f"{share}/llorch-orchestrator.service", f"{share}/{POOL}.service"]
    await there.do("cp", *services, "/etc/systemd/system")
    await there.do("systemctl", "daemon-reload")
    await there.do("systemctl", "enable", "--now", "llorch-orchestrator", POOL)
    ready = await there.show(POOL, "ActiveState", "SubState", "NRestarts")
    registered = await until(lambda: pools(there))
    await there.do("llorch", "pool", "worker", "spawn", "--model", "haiku")
    [(worker, *_)] = await workers(there)
    [first] = await there.show(POOL, "MainPID")

    await there.do("systemctl", "restart", POOL)
    [second] = await there.show(POOL, "MainPID")
    restarted = await workers(there)

    hanging = (await there.do("pgrep", "--parent", second, "--full", "serve pool")).split()
    await there.do("kill", "-STOP", *hanging)

    async def again() -> bool:
        return (await there.show(POOL, "NRestarts", "SubState")) == ["1", "running"]

    await until(again, 60)
    watched = await workers(there)
    poem = await there.do("llorch", "jobs", "submit", "--model", "haiku", "--prompt", "Write a haiku about rain")
    owner = (await there.do("stat", "--format=%U", f"/proc/{worker}")).strip()
    await there.do("systemctl", "stop", POOL, "llorch-orchestrator")
    ended = await there.show(POOL, "ActiveState", "Result")

    assert ready == ["active", "running", "0"]
    assert registered == [("here", "online")]
    assert first != second
    assert restarted == watched == [(worker, "ready", True)]
    assert poem.strip()
    assert owner == "llorch"
    assert ended == ["inactive", "success"]


async def test_a_user_s_pool_becomes_a_service_once_it_may_and_leaves_nothing(there: Machine) -> None:
    serve = ("--unit=orchestrator", "--property=Type=notify", "--property=NotifyAccess=all")
    data = ("--port", "8080", "--data-dir", "/var/lib/orchestrator")
    await there.do("systemd-run", "--quiet", *serve, "/usr/local/bin/llorch", "serve", "orchestrator", *data)
    await there.do("llorch", "hosts", "add", "ann", "--url", "http://127.0.0.1:9200")
    everything = ("find", "/home/ann", "/root", "/var/lib/systemd/linger", "-name", "*llorch*", "-o", "-name", "ann")
    install = ("llorch", "hosts", "install", "ann", "--orchestrator", ORCHESTRATOR)

    detached = await there.run(*install)
    await there.do("loginctl", "enable-linger", "ann")
    service = await there.run(*install)
    state = await there.show(POOL, "ActiveState", "SubState", user=True)
    await there.do("llorch", "pool", "worker", "spawn", "--model", "haiku", "--host", "ann")
    [(worker, *_)] = await workers(there, "--host", "ann")
    await there.as_ann(f"systemctl --user restart {POOL}")
    restarted = await workers(there, "--host", "ann")
    await there.do("llorch", "hosts", "remove", "ann", "--purge", "--force")
    after = (await there.do(*everything)).split()

    assert detached.status == service.status == 0, detached.stderr + service.stderr
    assert "the pool of ann runs, but not as a service" in detached.stderr
    assert service.stderr == ""
    assert state == ["active", "running"]
    assert restarted == [(worker, "ready", True)]
    assert after == ["/home/ann", "/var/lib/systemd/linger/ann"], "it was not the install that has turned lingering on"


async def test_lingering_is_turned_off_by_who_has_turned_it_on(there: Machine) -> None:
    emptied = removal(
        Found(program=True, unit=False, data_bytes=0, models_bytes=0, orchestrator=False, configuration=None)
    )
    purge = script(emptied, data="$HOME/none")

    async def as_root(text: str) -> list[str]:
        await there.do("ssh", "-F", "/etc/systemd/system/ssh_config", "root", shlex.join(["sh", "-c", text]))
        return (await there.do("find", "/root", "/var/lib/systemd/linger", "-type", "f", "-path", "*linger*")).split()

    turned_on = await as_root(hosts_plan.MAY_LINGER)
    undone = await as_root(purge)
    await there.do("loginctl", "enable-linger", "root")
    found_on = await as_root(hosts_plan.MAY_LINGER)
    left_on = await as_root(purge)

    assert turned_on == ["/root/.local/share/llorch/linger", "/var/lib/systemd/linger/root"]
    assert undone == []
    assert found_on == left_on == ["/var/lib/systemd/linger/root"]
