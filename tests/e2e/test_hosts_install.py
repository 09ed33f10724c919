"""`llorch hosts install`: the executable copied through a real sshd, its pool started, restarted, registered."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.processes import Finished, role, run, until
from tests.e2e.terminal import terminal
from tests.support.cutting import Line, line
from tests.support.ended import end_all_of
from tests.support.sshd import SshHost, ssh_host, why_not

NO_EXE = "" if "LLORCH_EXE" in os.environ else "only the executable can be installed: set LLORCH_EXE"
needs_ssh = pytest.mark.skipif(bool(why_not()), reason=why_not())
needs_both = pytest.mark.skipif(bool(why_not() or NO_EXE), reason=why_not() or NO_EXE)
TOKEN = "a-token-that-all-share"
MIB = 1 << 20


@contextmanager
def _ended(home: Path) -> Iterator[None]:
    """End whatever was started on the other host."""
    try:
        yield
    finally:
        end_all_of(home)


def _configured(folder: Path, ssh: SshHost, **host: str) -> dict[str, str]:
    """Write our configuration; return what makes commands use it."""
    config = folder / "llorch.toml"
    config.write_text("[hosts.far]\n" + "".join(f'{key} = "{value}"\n' for key, value in host.items()))
    return {**ssh.environment, "LLORCH_CONFIG": str(config), "LLORCH_API_TOKEN": TOKEN}


async def _cut_after(line_to: Line, ssh: SshHost, *, size_bytes: int) -> None:
    """Break the line once so much of the executable has gone over it, and some has arrived."""
    line_to.stuck_after_bytes = size_bytes

    async def hangs() -> bool:
        there = (ssh.home / ".local/bin").glob(".llorch.*.part")
        return line_to.stuck_after_bytes is None and any(part.stat().st_size > MIB for part in there)

    await until(hangs)
    line_to.cut()


@needs_both
@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_host_is_installed_and_installed_again_under_a_running_worker(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    serve = ("orchestrator", "--port", "0", "--data-dir", str(tmp_path / "orchestrator"))
    by_hand = ("pool", "--port", url.rpartition(":")[2], "--pool-id", "far")
    secret = {"LLORCH_API_TOKEN": TOKEN}
    async with (
        ssh_host(tmp_path / "ssh") as ssh,
        line(f"http://127.0.0.1:{ssh.port}") as wire,
        role(*serve, log=tmp_path / "log", env=secret, token=TOKEN) as orchestrator,
        role(*by_hand, log=tmp_path / "by hand", env={**secret, "HOME": str(tmp_path / "ssh/home")}) as old_pool,
    ):
        env = _configured(tmp_path, ssh, url=url)

        async def llorch(*arguments: str) -> Finished:
            return await run(*arguments, env=env)

        with _ended(ssh.home):
            install = ("hosts", "install", "far", "--orchestrator", orchestrator.url)
            wire_port = int(wire.url.rpartition(":")[2])
            ssh.client(port=wire_port)
            ssh.know("host", port=wire_port)
            async with terminal(*install, env=env, columns=120) as first:
                await _cut_after(wire, ssh, size_bytes=8 * MIB)
                status, seen, lines = await first.ended(), first.seen, first.lines
            old_status = old_pool.process.returncode
            copied = (ssh.home / ".local/bin/llorch").stat()
            pools = await llorch("pool", "list", "--json", "--url", orchestrator.url)
            spawned = await llorch("pool", "worker", "spawn", "--model", "haiku", "--host", "far")
            config = ssh.home / ".config/llorch/llorch.toml"
            config.write_text(config.read_text().replace(f'"{orchestrator.url}"', '"http://127.0.0.1:1" # was here'))
            again = await llorch(*install, "--json")
            configured = config.read_text()
            workers = await llorch("pool", "worker", "list", "--json", "--host", "far", "--via", "ssh")
            stopped = await llorch("pool", "worker", "stop", spawned.stdout.strip(), "--host", "far")

    assert status == 0, seen
    assert "the connection to far was lost, trying again …" in seen
    assert re.search(r"copying \[#+\.+\] +\d+% of [\d.]+ MiB, [\d.]+ MiB were there", seen), seen
    assert sum(wire.carried) < copied.st_size + 9 * MIB
    assert old_status == 0, "what was started by hand has gone on"
    assert lines[0].startswith("pool far ")
    assert f"registered with {orchestrator.url}" in lines[0]
    assert lines[2].startswith("DEVICE ")
    assert [(p["pool_id"], p["status"], p["endpoint"]) for p in json.loads(pools.stdout)["pools"]] == [
        ("far", "online", url)
    ]
    assert spawned.status == 0, spawned.stderr
    assert again.status == 0, again.stderr
    after = json.loads(again.stdout)
    assert after["registered"] is True
    assert f'orchestrator = "{orchestrator.url}" # was here\n' in configured
    assert [(w["worker_id"], w["status"]) for w in json.loads(workers.stdout)["workers"]] == [
        (spawned.stdout.strip(), "ready")
    ]
    assert stopped.status == 0, stopped.stderr
    assert (ssh.home / ".local/bin/llorch").stat().st_mtime_ns == copied.st_mtime_ns
    assert copied.st_mode & 0o777 == 0o755
    for name in ("token", "llorch.toml"):
        assert (ssh.home / ".config/llorch" / name).stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in (ssh.home / ".local/bin").iterdir()) == ["llorch"]


@needs_both
async def test_what_cannot_be_installed_is_told_in_one_line_and_changes_nothing(tmp_path: Path) -> None:
    async with ssh_host(tmp_path / "ssh") as ssh:
        install = ("hosts", "install", "far", "--orchestrator", "http://127.0.0.1:1")
        no_url = await run(*install, env=_configured(tmp_path, ssh))
        env = _configured(tmp_path, ssh, url="http://192.0.2.7:9200")
        nowhere = await run(*install[:3], env=env)
        open_to_all = await run(*install, env={**env, "LLORCH_API_TOKEN": ""})
        bare = await run("hosts", "upgrade", "far", env=env)
        (ssh.bin / "uname").write_text("#!/bin/sh\necho Plan9 mips\n")
        (ssh.bin / "uname").chmod(0o755)
        strange = await run(*install, env=env)
        ssh.client(key="stranger")
        refused = await run(*install, env=env)

    for finished, said in (
        (no_url, "host far has no url"),
        (nowhere, "say where it can with --orchestrator"),
        (open_to_all, "without a token anyone could use the host"),
        (bare, "llorch has not been installed there; do so with: llorch hosts install far"),
        (strange, "far is Plan9 mips"),
        (refused, "it refused our key"),
    ):
        assert finished.status in {1, 2}
        assert said in finished.stderr
        assert finished.stderr.count("\n") == 1
    assert list(ssh.home.iterdir()) == []


@needs_ssh
async def test_sources_cannot_be_copied_and_say_so(tmp_path: Path) -> None:
    if not NO_EXE:
        pytest.skip("this is the executable")
    async with ssh_host(tmp_path / "ssh") as ssh:
        env = _configured(tmp_path, ssh, url="http://127.0.0.1:9200")
        finished = await run("hosts", "install", "far", "--orchestrator", "http://127.0.0.1:1", env=env)

    assert (finished.status, finished.stderr.count("\n")) == (2, 1)
    assert "only the one-file executable can be copied to another host: `make exe`" in finished.stderr


@needs_ssh
async def test_an_executable_for_another_kind_of_host_is_not_copied(tmp_path: Path) -> None:
    other = tmp_path / "llorch-riscv64"
    other.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00" + bytes(1000))
    async with ssh_host(tmp_path / "ssh") as ssh:
        env = _configured(tmp_path, ssh, url="http://127.0.0.1:9200")
        install = ("hosts", "install", "far", "--orchestrator", "http://127.0.0.1:1", "--executable")
        wrong, none = await run(*install, str(other), env=env), await run(*install, __file__, env=env)
        left = list(ssh.home.iterdir())

    assert "and this executable is for Linux riscv64" in wrong.stderr
    assert "this is no program of Linux or macOS" in none.stderr
    assert [(finished.status, finished.stderr.count("\n")) for finished in (wrong, none)] == [(2, 1)] * 2
    assert left == []
