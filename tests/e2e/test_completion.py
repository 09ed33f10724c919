"""The Tab key in a real bash, and what zsh and fish are told: words, names of hosts and models, ids of jobs."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from pathlib import Path

import pytest

from tests.e2e.processes import Finished, finish, orchestrator_role, program, run, until

TAB = """
source "$SCRIPT"
COMP_WORDS=({words} "{last}"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_llorch_completion llorch
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a shell that finds `llorch`, with a host and an alias configured."""
    config = tmp_path / "llorch.toml"
    config.write_text('[hosts.mac]\n[hosts.main]\n[aliases]\nmine = "file:/m.gguf"\n')
    script = tmp_path / "bin" / "llorch"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {shlex.join(program())} "$@"\n')
    script.chmod(0o755)
    return {"PATH": f"{script.parent}:{os.environ['PATH']}", "LLORCH_CONFIG": str(config)}


async def tab(words: str, last: str, env: dict[str, str]) -> list[str]:
    """Return what bash offers behind these words for a beginning of the next one."""
    status, out, err = await finish("bash", "-c", TAB.format(words=words, last=last), env=env)
    assert (status, err) == (0, "")
    return out.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
async def test_bash_completes_words_hosts_models_and_job_ids(env: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text((await run(env={"_LLORCH_COMPLETE": "source_bash"})).stdout)
    env["SCRIPT"] = str(script)
    async with orchestrator_role(tmp_path) as orchestrator:
        job = await orchestrator.submit(model="haiku", prompt="hello")
        done = await orchestrator.submit(model="haiku", prompt="hello")
        await orchestrator.cancel(done.job_id)
        there = {**env, "LLORCH_URL": orchestrator.url}
        # Asking has a limit of time: on a machine that is busy otherwise, it takes another press.
        shown = await until(lambda: tab("llorch jobs show", "", there))
        cancelled = await until(lambda: tab("llorch jobs cancel", job.job_id[:4], there))

    assert shown == [done.job_id, job.job_id]
    assert cancelled == [job.job_id]
    assert await tab("llorch pool", "gi", env) == ["git"]
    assert await tab("llorch pool status --host", "ma", env) == ["mac", "main"]
    assert await tab("llorch jobs submit --model", "m", env) == ["mine", "mistral"]


async def complete(shell: str, line: str, env: dict[str, str]) -> Finished:
    """Return what a shell is told about a line."""
    told = {"_LLORCH_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
    return await run(env={**env, **told, "_TYPER_COMPLETE_FISH_ACTION": "get-args"})


async def test_zsh_and_fish_are_told_the_same(env: dict[str, str]) -> None:
    zsh = await complete("zsh", "llorch hosts remove ma", env)
    fish = await complete("fish", "llorch hosts remove ma", env)

    assert (zsh.stdout.strip(), zsh.stderr) == ('_arguments \'*: :(("mac"\n"main"))\'', "")
    assert (fish.stdout.split(), fish.stderr) == (["mac", "main"], "")


async def test_an_orchestrator_that_is_away_and_a_broken_configuration_offer_nothing(
    env: dict[str, str], tmp_path: Path
) -> None:
    away = await complete("fish", "llorch jobs show ", {**env, "LLORCH_URL": "http://127.0.0.1:1"})
    (tmp_path / "llorch.toml").write_text("nonsense")
    broken = await complete("fish", "llorch hosts remove ", env)

    assert (away.stdout.strip(), away.stderr) == ("", "")
    assert (broken.stdout.strip(), broken.stderr) == ("", "")


async def test_a_server_that_never_answers_is_given_up(env: dict[str, str]) -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        writer.close()
        await writer.wait_closed()
        gone.set()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await complete("fish", "llorch jobs show ", {**env, "LLORCH_URL": f"http://127.0.0.1:{port}"})
        await gone.wait()

    assert (found.stdout.strip(), found.stderr) == ("", "")
