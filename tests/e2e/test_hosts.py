"""`llorch hosts` and `--host`: another host reached over HTTP and through a real sshd, or not."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from llorch import __version__
from tests.e2e.processes import Finished, Role, clean_environment, program, role, run, until
from tests.e2e.terminal import terminal
from tests.support.sshd import SshHost, ssh_host, why_not

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=why_not()), pytest.mark.timeout(300)]
NOWHERE = "http://127.0.0.1:1"


class Far:
    """Another host: its sshd, its pool, and our configuration, in which it is called far."""

    def __init__(self, folder: Path, ssh: SshHost, pool: Role | None) -> None:
        self.ssh = ssh
        self.pool = pool
        self.config = folder / "llorch.toml"
        self.env = {**ssh.environment, "LLORCH_CONFIG": str(self.config)}
        port = str(urlsplit(pool.url).port) if pool else "1"
        ssh.install(program(), {"LLORCH_POOL_PORT": port, "XDG_CONFIG_HOME": str(folder), "NO_COLOR": "1"})

    def known_as(self, url: str = "") -> None:
        """Write our configuration."""
        self.config.write_text(f'[hosts.far]\nurl = "{url}"\n')

    async def run(self, *arguments: str, stdin: bytes = b"") -> Finished:
        """Run a command here."""
        return await run(*arguments, env=self.env, stdin=stdin)


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    """Another host with a pool."""
    pool = role("pool", "--port", "0", "--data-dir", str(tmp_path / "pool"), "--pool-id", "far", log=tmp_path / "log")
    async with ssh_host(tmp_path / "ssh") as ssh, pool as running:
        yield Far(tmp_path, ssh, running)


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Far]:
    """Another host without a pool."""
    async with ssh_host(tmp_path / "ssh") as ssh:
        host = Far(tmp_path, ssh, None)
        host.known_as()
        yield host


async def test_the_same_command_goes_over_http_where_the_pool_answers_and_else_by_ssh(far: Far) -> None:
    assert far.pool is not None
    far.known_as(far.pool.url)
    by_http = await far.run("pool", "status", "--host", "far", "--json")
    forced = await far.run("pool", "status", "--json", "--host=far", "--via=ssh")
    far.known_as(NOWHERE)
    by_ssh = await far.run("pool", "status", "--host", "far", "--json")
    models = await far.run("pool", "models", "list", "--json", "--host", "far")
    only_http = await far.run("pool", "status", "--host", "far", "--via", "http")
    (far.ssh.bin / "llorch").unlink()
    far.known_as(far.pool.url)
    without_ssh = await far.run("pool", "status", "--host", "far", "--json")

    for finished in (by_http, forced, by_ssh, without_ssh):
        assert (finished.status, finished.stderr) == (0, "")
        assert json.loads(finished.stdout)["pool_id"] == "far"
    assert "haiku" in models.stdout, models.stderr
    assert (only_http.status, only_http.stdout, only_http.stderr.count("\n")) == (1, "", 1)
    assert "the pool of far at http://127.0.0.1:1 cannot be reached: connection refused" in only_http.stderr


async def test_a_worker_is_started_listed_and_stopped_by_ssh(far: Far) -> None:
    far.known_as()
    spawned = await far.run("pool", "worker", "spawn", "cpu", "--model", "haiku", "--ctx", "96", "--host", "far")
    worker_id = spawned.stdout.strip()
    listed = await far.run("pool", "worker", "list", "--json", "--host", "far")
    stopped = await far.run("pool", "worker", "stop", worker_id, "--host", "far")

    assert (spawned.status, spawned.stderr) == (0, "")
    assert [(w["worker_id"], w["status"]) for w in json.loads(listed.stdout)["workers"]] == [(worker_id, "ready")]
    assert stopped.status == 0, stopped.stderr


async def test_the_exit_status_and_both_streams_of_the_other_host_come_through(far: Far) -> None:
    far.known_as()
    failed = await far.run("pool", "worker", "logs", "no such; 'worker'", "--host", "far")
    wrong = await far.run("pool", "worker", "stop", "--host", "far", "--nonsense")
    local = await far.run("pool", "worker", "logs", "no such; 'worker'", "--pool-url", far.pool.url if far.pool else "")

    assert (failed.status, failed.stdout) == (1, "")
    assert failed.stderr == local.stderr
    assert wrong.status == 2


async def test_exec_runs_words_as_they_are_and_a_line_in_the_shell(bare: Far) -> None:
    words = await bare.run("hosts", "exec", "far", "--", "printf", "%s|", "a b", "$HOME", "*", "it's", "-l")
    line = await bare.run("hosts", "exec", "far", "cat | tr a-z A-Z; echo lost >&2; exit 7", stdin=b"hello")
    dashed = await bare.run("hosts", "exec", "far", "printf", "%s", "-l", "--json")

    assert words == Finished(0, "a b|$HOME|*|it's|-l|", "")
    assert line == Finished(7, "HELLO", "lost\n")
    assert dashed == Finished(0, "-l--json", "")


async def test_the_other_host_gets_a_terminal_only_from_a_terminal(bare: Far) -> None:
    ask = ("hosts", "exec", "far", "test -t 0 && test -t 1 && test -t 2 && stty size || echo none")
    piped = await bare.run(*ask)
    async with terminal(*ask, columns=93, rows=31, env=bare.env) as shown:
        status = await shown.ended()
        await shown.until(lambda seen: "31 93" in seen)

    assert piped == Finished(0, "none\n", "")
    assert status == 0
    assert shown.lines == ["31 93", ""]


async def test_a_terminal_shows_how_far_the_other_host_is(far: Far) -> None:
    far.known_as()
    spawn = ("pool", "worker", "spawn", "--model", "haiku", "--host", "far")
    async with terminal(*spawn, env=far.env) as shown:
        status = await shown.ended()

    assert status == 0, shown.seen
    assert "loading the model" in shown.seen
    listed = json.loads((await far.run("pool", "worker", "list", "--json", "--host", "far")).stdout)
    assert shown.lines == [listed["workers"][0]["worker_id"], ""]


async def test_what_keeps_ssh_out_is_told_in_one_line_with_what_to_do(bare: Far) -> None:
    ssh = bare.ssh
    here = f"'[127.0.0.1]:{ssh.port}'"
    ssh.client(key="stranger")
    refused = await bare.run("pool", "status", "--host", "far")
    ssh.client()
    ssh.know("stranger")
    changed = await bare.run("pool", "status", "--host", "far")
    ssh.known_hosts.write_text("")
    unknown_key = await bare.run("pool", "status", "--host", "far")
    ssh.know("host")
    with socket.socket() as taken:  # bound and not listening: nobody else can take it, and it refuses
        taken.bind(("127.0.0.1", 0))
        ssh.client(port=taken.getsockname()[1])
        unreachable = await bare.run("pool", "status", "--host", "far")
    ssh.client()
    (ssh.bin / "llorch").unlink()
    missing = await bare.run("pool", "status", "--host", "far")
    unknown = await bare.run("pool", "status", "--host", "fra")

    said = [finished.stderr for finished in (refused, changed, unknown_key, unreachable, unknown)]
    for line, what in zip(
        said,
        (
            "llorch: ssh cannot reach far (far): it refused our key; let it in with: ssh-copy-id far",
            f"if the new key is right: ssh-keygen -f {ssh.known_hosts} -R {here}",
            "its host key is not known here; compare and accept it once with: ssh far",
            "nothing listens for ssh there",
            "did you mean far? to add it: llorch hosts add fra",
        ),
        strict=True,
    ):
        assert what in line
        assert line.count("\n") == 1
    assert [f.status for f in (refused, changed, unknown_key, unreachable, missing, unknown)] == [1, 1, 1, 1, 1, 2]
    assert missing.stderr.splitlines()[-1].startswith("llorch: far has no llorch, neither in the PATH")
    assert "scp" in missing.stderr


async def test_the_key_that_the_message_names_is_really_forgotten(bare: Far) -> None:
    bare.ssh.know("stranger")
    changed = await bare.run("pool", "status", "--host", "far")
    command = changed.stderr.rpartition("is right: ")[2]
    forgotten = subprocess.run(["sh", "-c", command], check=False, capture_output=True)
    after = await bare.run("pool", "status", "--host", "far")

    assert forgotten.returncode == 0
    assert "its host key is not known here" in after.stderr


@pytest.mark.slow
async def test_a_host_that_says_nothing_is_given_up_after_ten_seconds(bare: Far) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bare.ssh.client(port=silent.getsockname()[1])
        finished = await bare.run("pool", "status", "--host", "far")

    assert finished.status == 1
    assert finished.stderr == (
        "llorch: ssh cannot reach far (far): no answer within 10 s; is it on, and does its firewall let ssh in?\n"
    )


async def test_a_machine_without_ssh_says_so(bare: Far) -> None:
    bare.env["LLORCH_SSH"] = "no-such-ssh -F x"
    finished = await bare.run("hosts", "exec", "far", "true")

    assert (finished.status, finished.stderr.count("\n")) == (1, 1)
    assert "no-such-ssh cannot be run: no such file or directory; install OpenSSH's client" in finished.stderr


async def test_ssh_is_run_with_its_own_libraries_and_not_with_ours(bare: Far) -> None:
    bare.env["LLORCH_SSH"] = """sh -c 'echo "[$LD_LIBRARY_PATH]"'"""
    finished = await bare.run("hosts", "exec", "far", "true")

    assert finished == Finished(0, f"[{os.environ.get('LD_LIBRARY_PATH', '')}]\n", "")


async def test_an_llorch_of_another_version_is_told_when_it_does_not_know_the_command(bare: Far) -> None:
    old = bare.ssh.bin / "llorch"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo llorch 0.0.1 && exit\necho what >&2; exit 2\n')
    finished = await bare.run("pool", "status", "--host", "far")

    assert finished.status == 2
    told = finished.stderr.splitlines()
    assert told[0] == "what"
    assert told[1].startswith(f"llorch: far has llorch 0.0.1, this is llorch {__version__}")


async def test_a_lost_command_is_told(bare: Far) -> None:
    finished = await bare.run("hosts", "exec", "far", "kill -9 $$")

    assert finished.status == 255
    assert finished.stderr.startswith("llorch: the command on far ended without a status")


async def test_a_command_that_is_interrupted_here_ends_without_a_word(bare: Far) -> None:
    begun, never = bare.ssh.folder / "begun", bare.ssh.folder / "never"
    os.mkfifo(never)
    command = f"echo $$ >{shlex.quote(str(begun))}; exec cat {shlex.quote(str(never))}"
    process = await asyncio.create_subprocess_exec(
        *program(),
        *("hosts", "exec", "far", command),
        env=clean_environment(bare.env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )

    async def there() -> bool:
        return begun.exists() and begun.read_text().endswith("\n")

    await until(there)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    async with asyncio.timeout(30):
        told = await process.communicate()
    with suppress(ProcessLookupError):
        os.kill(int(begun.read_text()), signal.SIGKILL)

    assert (process.returncode, *told) == (130, b"", b"")


@asynccontextmanager
async def _no_pool() -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


async def test_hosts_are_listed_with_the_way_that_leads_to_them(far: Far) -> None:
    assert far.pool is not None
    async with _no_pool() as silent:
        for arguments in (("on", "--url", far.pool.url), ("off", "--url", silent, "--ssh", "ann@off"), ("plain",)):
            added = await far.run("hosts", "add", *arguments)
            assert added.status == 0, added.stderr
        listed = await far.run("hosts", "list", "--json")
        shown = await far.run("hosts", "list")

    told = json.loads(listed.stdout)["hosts"]
    assert [(h["name"], h["via"], h["ssh"]) for h in told] == [
        ("on", "http", "on"),
        ("off", "ssh", "ann@off"),
        ("plain", "ssh", "plain"),
    ]
    assert told[0]["answer_ms"] > 0
    assert "did not answer in time" in told[1]["reason"]
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["HOST", "REACHED", "BY", "POOL", "URL", "SSH"]
    assert len(lines) == 4


async def test_a_host_is_added_and_removed_without_touching_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "llorch.toml"
    before = "# mine\n[pool]\nport = 9300   # not 9200\n\n[aliases]\n"
    file.write_text(before)
    file.chmod(0o640)
    config = ("--config", str(file))
    added = await run("hosts", "add", "mac", "--url", "http://mac:9200", *config)
    text = file.read_text()
    again = await run("hosts", "add", "mac", *config)
    wrong = [
        await run("hosts", "add", *bad, *config)
        for bad in (("a b",), ("x", "--url", "mac:9200"), ("x", "--ssh=-oProxyCommand=x"), ("x", "--ssh", "a b"))
    ]
    unchanged = file.read_text()
    removed = await run("hosts", "remove", "mac", *config)
    gone = await run("hosts", "remove", "mac", *config)

    assert added.status == 0
    assert text == unchanged == f'{before}\n[hosts.mac]\nurl = "http://mac:9200"\n'
    assert [f.status for f in (again, *wrong, removed, gone)] == [2, 2, 2, 2, 2, 0, 2]
    assert [f.stderr.count("\n") for f in (again, *wrong, gone)] == [1] * 6
    assert "[hosts.mac] is there already" in again.stderr
    assert file.read_text() == before
    assert file.stat().st_mode & 0o777 == 0o640
