"""Processes of workers: what they are given, what they write, and that nothing of them stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llorch.program import WORKER_TOKEN_VARIABLE
from roles.pool.worker_lifecycle import processes
from roles.pool.worker_lifecycle.processes import (
    ProcessLauncher,
    worker_command,
    worker_environment,
)
from tests.support.ended import pid_ended
from tests.support.open_files import none_left
from tests.unit.test_pool_worker_lifecycle_launcher import SPEC

SHOW = (
    f"import os; print('http://127.0.0.1:1'); print(os.environ['{WORKER_TOKEN_VARIABLE}'], os.getsid(0) == os.getpid())"
)
WAITS = "import threading; threading.Event().wait()"
STARTS = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', '{WAITS}'], process_group={{}}).pid)"
ORPHAN, ESCAPED = STARTS.format("None"), STARTS.format(0)


def python(script: str, folder: Path) -> ProcessLauncher:
    return ProcessLauncher(folder, lambda spec: [sys.executable, "-c", script])


def test_the_command_line_says_everything_but_the_token() -> None:
    command = worker_command(SPEC, config="/etc/l.toml")

    assert command[-3:-1] == ["__worker", "w"]
    assert json.loads(command[-1]) == {
        "told": {
            "model": "/m",
            "model_ref": "file:/m",
            "worker_id": "w",
            "backend": "cpu",
            "device": "cpu",
            "split": "",
            "engine": "llamacpp",
            "callback_url": "http://127.0.0.1:9200",
            "orphan_s": 600.0,
        },
        "worker": {"slots": 2, "ctx": 64, "host": "127.0.0.1", "port": 0},
        "config": "/etc/l.toml",
    }


def test_a_worker_gets_its_own_token_and_not_that_of_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLORCH_API_TOKEN", "everything")

    environment = worker_environment("own")

    assert environment[WORKER_TOKEN_VARIABLE] == "own"
    assert "everything" not in environment.values()


async def test_a_worker_leads_its_own_session_and_writes_to_its_own_file(tmp_path: Path) -> None:
    child = await python(SHOW, tmp_path).start(SPEC)

    code = await child.wait()

    assert code == 0
    assert await child.url() == "http://127.0.0.1:1"
    assert await child.lines(1) == ["secret True"]
    assert (tmp_path / "w.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("script", [ORPHAN, ESCAPED])
async def test_nothing_that_a_worker_started_outlives_it(tmp_path: Path, script: str) -> None:
    child = await python(script, tmp_path).start(SPEC)

    await child.wait()

    left = int((await child.lines(1))[0])
    assert pid_ended(left)


async def test_without_open_files_left_it_is_looked_again_for_what_a_worker_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "END_CHECKS", 3)
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as leader:
        assert leader.stdout is not None
        left = int(leader.stdout.readline())
        leader.wait()

        with none_left():
            processes.end_session(leader.pid, token="another's")  # kills none, and has nothing to look with
        alive = not pid_ended(left)
        processes.end_session(leader.pid)

    assert (alive, pid_ended(left)) == (True, True)


async def test_signals_to_what_has_ended_do_nothing(tmp_path: Path) -> None:
    child = await python("", tmp_path).start(SPEC)
    await child.wait()

    child.terminate()
    child.kill()

    assert await child.url() is None
