"""The Tab key in a real bash, zsh and fish: words, names of hosts and models, ids of jobs."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.processes import Finished, finish, orchestrator_role, program, run, until
from tests.e2e.terminal import Terminal, on_terminal

TAB = """
source "$SCRIPT"
COMP_WORDS=({words} "{last}"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_llorch_completion llorch
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

WORD = "llorch jobs sh"
OFFERED = {
    WORD: ["show"],
    "llorch pool status --host ma": ["mac", "main"],
    "llorch jobs submit --model mi": ["mine", "mistral"],
}
PASTE = "\x1b[?2004h"
"""What zsh writes behind its prompt: from here on a paste is to be marked as one."""

SHELL_S = 20.0


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


# Asking for values has a limit of time: on a machine that is busy otherwise, it takes another press.


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
        shown = await until(lambda: tab("llorch jobs show", "", there))
        cancelled = await until(lambda: tab("llorch jobs cancel", job.job_id[:4], there))

    assert shown == [done.job_id, job.job_id]
    assert cancelled == [job.job_id]
    assert await tab("llorch pool", "gi", env) == ["git"]
    assert await tab("llorch pool status --host", "ma", env) == ["mac", "main"]
    assert await tab("llorch jobs submit --model", "m", env) == ["mine", "mistral"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish here")
async def test_fish_completes_the_same_with_the_file_that_setup_makes(env: dict[str, str], tmp_path: Path) -> None:
    home = {**env, "HOME": str(tmp_path), "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": ""}
    done = await run("dev", "setup", "--yes", "--shell", "fish", env=home)
    async with orchestrator_role(tmp_path) as orchestrator:
        job = await orchestrator.submit(model="haiku", prompt="hello")
        there = {**home, "LLORCH_URL": orchestrator.url}

        async def offered(*lines: str) -> list[list[str]]:
            """Return what fish offers for each line."""
            script = "; ".join(f"complete -C {shlex.quote(line)}; echo ==" for line in lines)
            status, out, err = await finish("fish", "-c", script, env=there)
            assert (status, err) == (0, "")
            return [
                [offer.partition("\t")[0] for offer in told.splitlines()] for told in out.split("==\n")[: len(lines)]
            ]

        told = await offered(*OFFERED)

        async def job_is_there() -> bool:
            return await offered("llorch jobs show ") == [[job.job_id]]

        await until(job_is_there, 60)

    assert done.status == 0, done.stderr
    assert (tmp_path / ".config/fish/completions/llorch.fish").is_file()
    assert told == list(OFFERED.values())


needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh here")


async def set_up_for_zsh(env: dict[str, str], home: Path) -> tuple[dict[str, str], Finished]:
    """Have `setup` make what zsh reads; return the environment of a shell there, and what `setup` printed."""
    there = {**env, "HOME": str(home), "ZDOTDIR": str(home), "TERM": "dumb"}
    done = await run("dev", "setup", "--yes", "--shell", "zsh", env=there)
    rc = "fpath+=~/.zfunc\nautoload -Uz compinit\ncompinit -D -u\nunsetopt prompt_sp\nPS1='ready> '\n"
    (home / ".zshrc").write_text(rc)
    return there, done


async def press_tab(zsh: Terminal, line: str, expected: list[str]) -> None:
    """Type a line at the prompt, press Tab once, and wait until what is expected is shown."""
    await zsh.until(lambda seen: seen.endswith(f"ready> {PASTE}"))
    zsh.press(line.encode())
    await zsh.until(lambda seen: seen.endswith(line))
    shown = len(zsh.seen)
    zsh.press(b"\t")
    await zsh.until(lambda seen: all(word in seen[shown:] for word in expected))


async def zsh_completes(offered: Mapping[str, list[str]], env: dict[str, str]) -> bool:
    """Try each line in a new shell; a completion has a limit of time, which a busy machine may need more than.

    Ctrl-C would not do for a new prompt: one that comes before zsh has shown all that it offers ends only that.
    """
    for line, expected in offered.items():
        async with on_terminal(["zsh", "--no-globalrcs", "-i"], env=env, columns=200) as zsh:
            try:
                async with asyncio.timeout(SHELL_S):
                    await press_tab(zsh, line, expected)
            except TimeoutError:
                return False
    return True


@needs_zsh
async def test_zsh_completes_them_at_the_first_press_with_the_file_that_setup_makes(
    env: dict[str, str], tmp_path: Path
) -> None:
    there, done = await set_up_for_zsh(env, tmp_path)

    await until(lambda: zsh_completes({**OFFERED, WORD: ["ow "]}, there), 100)  # of a single one the rest is shown

    assert done.status == 0, done.stderr
    assert "in ~/.zshrc, before compinit: fpath+=~/.zfunc" in done.stdout


@needs_zsh
async def test_zsh_offers_the_ids_of_the_jobs_that_there_are(env: dict[str, str], tmp_path: Path) -> None:
    there, _ = await set_up_for_zsh(env, tmp_path)
    async with orchestrator_role(tmp_path) as orchestrator:
        jobs = [(await orchestrator.submit(model="haiku", prompt="hello")).job_id for _ in range(2)]
        await until(lambda: zsh_completes({"llorch jobs show ": jobs}, {**there, "LLORCH_URL": orchestrator.url}), 100)


async def complete(shell: str, line: str, env: dict[str, str]) -> Finished:
    """Return what a shell is told about a line."""
    told = {"_LLORCH_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
    return await run(env={**env, **told, "_TYPER_COMPLETE_FISH_ACTION": "get-args"})


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
