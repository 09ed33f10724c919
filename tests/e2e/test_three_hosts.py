"""Three hosts, each with its own network, home and sshd, operated from one of them with the executable alone."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from llorch import __version__
from tests.e2e.processes import Finished, clean_environment, finish, program, role, run, until
from tests.e2e.terminal import terminal
from tests.support import models, networks
from tests.support.hub import Hub
from tests.support.networks import Host

WHY_NOT = "" if "LLORCH_EXE" in os.environ else "only the executable can be installed on other hosts: set LLORCH_EXE"
WHY_NOT = WHY_NOT or networks.why_not()
pytestmark = [pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT), pytest.mark.slow, pytest.mark.timeout(400)]

TOKEN = "a-token-that-all-share"
SLOW = models.Shape(n_embd=512, n_layer=8, n_head=8, n_ff=1376, ctx=1024)
"""About ten milliseconds a token."""
LONG, SHORT, BEGUN = 900, 160, 8
"""Tokens: longer than an upgrade takes, longer than it takes to pull a cable, and what is read before either."""


class Operator:
    """Someone who sits at blep, and never leaves it."""

    def __init__(self, blep: Host) -> None:
        self._inside = blep.inside
        self._env = {
            **blep.env,
            "LLORCH_SSH": blep.ssh,
            "LLORCH_API_TOKEN": TOKEN,
            "LLORCH_URL": f"http://{blep.address}:8080",
        }

    async def ask(self, *arguments: str, stdin: bytes = b"") -> Finished:
        """Run a command to its end, whatever that is."""
        return await run(*arguments, env=self._env, stdin=stdin, inside=self._inside)

    async def do(self, *arguments: str) -> str:
        """Run a command that has to succeed; return what it prints."""
        finished = await self.ask(*arguments)
        assert finished.status == 0, f"llorch {shlex.join(arguments)}: {finished.stderr}"
        return finished.stdout

    async def watch(self, *arguments: str) -> str:
        """Run a command that has to succeed on a terminal; return all that it showed."""
        async with terminal(*arguments, env=self._env, inside=self._inside) as shown:
            status = await shown.ended()
        assert status == 0, shown.seen
        return shown.seen

    async def renew(self, host: str, executable: Path) -> dict[str, object]:
        """Upgrade a host to another executable than ours."""
        command = [*self._inside, str(executable), "hosts", "upgrade", host, "--json"]
        status, told, said = await finish(*command, env=self._env)
        assert status == 0, said
        found: dict[str, object] = json.loads(told)
        return found

    @asynccontextmanager
    async def stream(self, model: str, tokens: int) -> AsyncIterator[Stream]:
        """Submit a job that takes a while, and read it."""
        task = ("--model", model, "--prompt", "one two three", "--temperature", "0", "--max-tokens", str(tokens))
        process = await asyncio.create_subprocess_exec(
            *self._inside,
            *program(),
            *("jobs", "submit", *task, "--json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env=clean_environment(self._env),
        )
        try:
            yield Stream(process)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


class Stream:
    """The events of a job, as `jobs submit --json` prints them."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.events: list[tuple[str, dict[str, object]]] = []

    async def until(self, tokens: int) -> None:
        """Read that many tokens."""
        while sum(kind == "token" for kind, _ in self.events) < tokens:
            assert await self._more(), self.events

    async def rest(self) -> None:
        """Read to the end, which is that of the command."""
        while await self._more():
            pass
        assert await self._process.wait() == 0, self.events

    @property
    def text(self) -> str:
        """What came so far, after checking that nothing is missing or doubled."""
        told = [data for kind, data in self.events if kind == "token"]
        assert [data["i"] for data in told] == list(range(len(told)))
        return "".join(str(data["t"]) for data in told)

    @property
    def end(self) -> dict[str, object]:
        """What the last event tells."""
        kind, data = self.events[-1]
        assert kind == "end", self.events
        return data

    @property
    def workers(self) -> list[object]:
        """Return the workers that had the job, one after the other."""
        return [data["worker_id"] for kind, data in self.events if kind == "started"]

    async def _more(self) -> bool:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if line:
            event = json.loads(line)
            self.events.append((event["event"], event["data"]))
        return bool(line)


@dataclass(frozen=True, slots=True)
class Place:
    """Two hosts, who operates them from a third, the hub that all of them reach, and a model that they have."""

    mac: Host
    workstation: Host
    operator: Operator
    hub: Hub
    slow: str


@pytest.fixture(name="place")
async def _place(tmp_path: Path) -> AsyncIterator[Place]:
    hub = Hub("hub", "store")
    for name in ("first", "second"):
        hub.add(f"org/{name}", {f"{name}.gguf": models.make(tmp_path / f"{name}.gguf", seed=len(name))})
    slow = models.make(tmp_path / "slow.gguf", SLOW)
    env = {
        "HF_ENDPOINT": f"http://hub:{networks.HUB_PORT}",
        "no_proxy": "*",
        "LLORCH_WORKER_THREADS": "1",
        "LLORCH_WORKER_SLOTS": "1",
    }
    async with networks.network(tmp_path, ("blep", "mac", "workstation"), env) as (blep, mac, workstation):
        await hub.start(networks.listen_at_switch())
        serve = ("orchestrator", "--host", blep.address, "--port", "8080")
        orchestrator = {**blep.env, "LLORCH_API_TOKEN": TOKEN, "LLORCH_ORCHESTRATOR_HEARTBEAT_INTERVAL_S": "1"}
        async with role(*serve, log=tmp_path / "blep.log", env=orchestrator, inside=blep.inside):
            yield Place(mac, workstation, Operator(blep), hub, f"file:{slow}")
        await hub.stop()


async def test_two_hosts_are_installed_used_upgraded_lost_and_emptied_from_blep(tmp_path: Path, place: Place) -> None:
    operator = place.operator
    await models_arrive_without_a_pool_and_with_one(place)
    looked_at = await operator.do("pool", "status", "--host", "workstation")
    haiku = (
        await operator.do("pool", "worker", "spawn", "--backend", "cpu", "--model", "haiku", "--host", "mac")
    ).strip()
    poem = await operator.do("jobs", "submit", "--model", "haiku", "--prompt", "Write a haiku about rain", "--json")
    slow = (await operator.do("pool", "worker", "spawn", "--model", place.slow, "--host", "mac")).strip()

    whole = await an_upgrade_under_a_stream(tmp_path, place)
    moved = await a_cable_is_pulled_under_a_stream(place)
    await online(operator, "mac", "workstation")
    emptied = await both_are_emptied(place)

    assert looked_at.startswith("pool workstation ")
    assert f'"worker_id":"{haiku}"' in poem
    assert whole.workers == [slow]
    assert moved.workers[0] == slow
    assert len(moved.workers) == 2
    assert (whole.end["tokens_out"], moved.end["tokens_out"]) == (LONG, SHORT)
    assert whole.text.startswith(moved.text)
    assert emptied == ([], [])


async def models_arrive_without_a_pool_and_with_one(place: Place) -> None:
    """Download over ssh before there is a pool, install both hosts, download over HTTP."""
    operator = place.operator
    for host in (place.mac, place.workstation):
        await operator.do("hosts", "add", host.name, "--url", f"http://{host.name}:9200")
    receive = 'cd "$HOME" && mkdir -p .local/bin && cat >.local/bin/llorch && chmod +x .local/bin/llorch'
    sent = await operator.ask("hosts", "exec", "mac", receive, stdin=Path(program()[0]).read_bytes())
    by_ssh = await operator.watch("pool", "models", "download", "hf:org/first", "--host", "mac")
    copied = (place.mac.home / ".local/bin/llorch").stat().st_mtime_ns
    async with asyncio.TaskGroup() as tasks:
        installs = [tasks.create_task(operator.do("hosts", "install", host)) for host in ("mac", "workstation")]
    by_http = await operator.watch("pool", "models", "download", "hf:org/second", "--host", "mac", "--via", "http")

    assert sent == Finished(0, "", "")
    for shown, repo in ((by_ssh, "first"), (by_http, "second")):
        assert "━" in shown, "there is no bar"
        assert f"hf:org/{repo}@" in shown
    assert (place.mac.home / ".local/bin/llorch").stat().st_mtime_ns == copied
    assert [install.result().split(" · ")[0] for install in installs] == ["pool mac", "pool workstation"]
    assert place.hub.count("get") == 2


async def an_upgrade_under_a_stream(tmp_path: Path, place: Place) -> Stream:
    """Replace mac's executable while it writes a text."""
    newer = tmp_path / "newer"
    shutil.copy2(program()[0], newer)
    with newer.open("ab") as file:
        file.write(b"\n")  # the same program with another hash
    async with place.operator.stream(place.slow, LONG) as stream:
        await stream.until(BEGUN)
        renewed = await place.operator.renew("mac", newer)
        await stream.rest()

    assert (renewed["before"], renewed["after"]) == (__version__, __version__)
    assert (renewed["replaced"], renewed["workers_taken_over"]) == (True, 2)
    assert (place.mac.home / ".local/bin/llorch").stat().st_size == newer.stat().st_size
    return stream


async def a_cable_is_pulled_under_a_stream(place: Place) -> Stream:
    """Cut mac off while it writes the same text, and let it come back."""
    async with place.operator.stream(place.slow, SHORT) as stream:
        await stream.until(BEGUN)
        place.mac.plug(in_=False)
        await stream.rest()
        place.mac.plug(in_=True)

    return stream


async def online(operator: Operator, *names: str) -> None:
    """Return once these pools, and no others, are online."""

    async def all_are() -> bool:
        pools = json.loads(await operator.do("pool", "list", "--json"))["pools"]
        return [(pool["pool_id"], pool["status"]) for pool in pools] == [(name, "online") for name in names]

    await until(all_are)


async def both_are_emptied(place: Place) -> tuple[list[str], list[str]]:
    """Purge both hosts; return what is left in their homes."""
    operator, remove = place.operator, ("hosts", "remove")
    refused = await operator.ask(*remove, "workstation", "--purge", stdin=b"n\n")
    there = place.workstation.left()
    await operator.do(*remove, "mac", "--purge", "--force")
    agreed = await operator.ask(*remove, "workstation", "--purge", stdin=b"y\n")
    await online(operator)
    hosts = json.loads(await operator.do("hosts", "list", "--json"))

    assert (refused.status, refused.stdout) == (1, "")
    assert "Remove llorch from workstation, with " in refused.stderr
    assert ".local/bin/llorch" in there
    assert agreed.status == 0, agreed.stderr
    assert hosts == {"hosts": []}
    for host in (place.mac, place.workstation):
        assert [words for words in host.commands() if "serve" in words] == []
    return place.mac.left(), place.workstation.left()
