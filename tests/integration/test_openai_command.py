"""A server that a worker starts: it loads, is listened to, and ends with the worker, whatever ends that."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.servers import LlamaServer, command, free_port, llama_server
from tests.support.workers import until_gone, worker_process

HAIKU = Path(__file__).parents[2] / "llorch/assets/haiku.gguf"
JOB: dict[str, Any] = {"prompt": "Write a haiku about rain", "temperature": 0, "max_tokens": 8}
NAME = LlamaServer.name


def reference(port: int, *told: str, **keys: object) -> dict[str, object]:
    """Return what makes a worker one of a server that it starts."""
    server = {"url": f"http://127.0.0.1:{port}/v1", "command": told, "models": [NAME], **keys}
    return {"engine": "openai", "model_ref": f"server:own/{NAME}", "server": server}


def llama(port: int, *more: str) -> list[str]:
    return command(HAIKU, port, "--alias", NAME, *more)


def family(pid: int) -> list[psutil.Process]:
    """Return all that a worker has started."""
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_server_is_started_used_and_gone_with_its_worker(tmp_path: Path, number: signal.Signals) -> None:
    port, key_file = free_port(), tmp_path / "key"
    key_file.touch(0o600)
    key_file.write_text("secret-key")
    told = reference(port, *llama(port), api_key_file=str(key_file))

    async with worker_process(Path("server:own/x"), **told) as process:
        await process.worker.ready()
        text = await process.worker.text(**JOB)
        started = family(process.process.pid)
        commands = [" ".join(one.cmdline()) for one in started]
        os.kill(process.process.pid, number)
        for one in started:
            await until_gone(one)
        _, lines = await process.end()

    assert text
    assert [("__guard" in line, "llama_server" in line) for line in commands] == [(True, True), (False, True)]
    assert "secret-key" not in "".join([*commands, *lines])


async def test_what_still_holds_the_output_of_an_ended_server_holds_up_nobody() -> None:
    script = (
        "import subprocess, sys; "
        "print(subprocess.Popen(['sleep', '1000'], start_new_session=True).pid, flush=True); sys.exit(3)"
    )

    async with worker_process(Path("server:own/x"), **reference(free_port(), sys.executable, "-c", script)) as process:
        status, lines = await process.end()
    os.kill(int(lines[-1].rpartition(" ")[2]), signal.SIGKILL)

    assert status == 1
    assert "exit status 3; its last words: " in lines[-1]


async def test_what_a_server_has_started_itself_does_not_outlive_a_killed_worker() -> None:
    port = free_port()
    script = "import subprocess, sys; subprocess.Popen(['sleep', '1000']); sys.exit(subprocess.call(sys.argv[1:]))"

    async with worker_process(
        Path("server:own/x"), **reference(port, sys.executable, "-c", script, *llama(port))
    ) as process:
        await process.worker.ready()
        started = family(process.process.pid)
        names = [one.name() for one in started]
        os.kill(process.process.pid, signal.SIGKILL)
        for one in started:
            await until_gone(one)

    assert names.count("sleep") == 1
    assert len(names) == 4


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (["/no/such/program"], "exit status 127; its last words: /no/such/program cannot be started"),
        ([sys.executable, "-c", "import sys; sys.exit('no GPU here')"], "exit status 1; its last words: no GPU here"),
        (
            [sys.executable, "-c", "import os; print('hm', flush=True); os.abort()"],
            "exit status 134 (signal 6); its last words: hm",
        ),
    ],
)
async def test_a_command_that_fails_is_told_with_its_last_words(told: list[str], words: str) -> None:
    async with worker_process(Path("server:own/x"), **reference(free_port(), *told)) as process:
        status, lines = await process.end()

    assert status == 1
    assert words in lines[-1]


async def test_a_server_that_loads_for_ever_without_a_word_is_given_up() -> None:
    told = reference(free_port(), sys.executable, "-c", "import time; time.sleep(1000)", ready_timeout_s=0.5)

    async with worker_process(Path("server:own/x"), **told) as process:
        started = await _first_child(process.process.pid)
        status, lines = await process.end()
        await until_gone(started)

    assert status == 1
    assert "takes no requests and has said nothing for 0.5 s" in lines[-1]


async def test_loading_gets_on_while_the_server_speaks() -> None:
    script = "import time\nwhile True: print('loading', flush=True); time.sleep(0.05)"
    told = reference(free_port(), sys.executable, "-c", script, ready_timeout_s=30)

    async with worker_process(Path("server:own/x"), **told) as process:
        first = await process.worker.until(lambda health: health.progress > 0)
        later = await process.worker.until(lambda health: health.progress > first.progress + 5)

    assert (first.status, later.status) == ("starting", "starting")


async def test_a_server_that_was_there_before_is_not_taken_for_the_command(tmp_path: Path) -> None:
    with llama_server(HAIKU, tmp_path) as stranger:
        told = reference(stranger.port, *llama(stranger.port))
        async with worker_process(Path("server:own/x"), **told) as process:
            status, lines = await process.end()

    assert status == 1
    assert "something answers at" in lines[-1]


async def test_a_killed_server_ends_its_worker(tmp_path: Path) -> None:
    port = free_port()
    async with worker_process(Path("server:own/x"), **reference(port, *llama(port))) as process:
        await process.worker.ready()
        [server] = [one for one in family(process.process.pid) if "__guard" not in one.cmdline()]
        server.kill()
        status, lines = await process.end()

    assert status == 1
    assert "the server's command ended with exit status 137 (signal 9)" in lines[-1]


async def _first_child(pid: int) -> psutil.Process:
    async with asyncio.timeout(30):
        while not (found := family(pid)):
            await asyncio.sleep(0.005)
    return found[0]
