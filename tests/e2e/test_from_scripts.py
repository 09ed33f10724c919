"""Every command of docs/from-scripts.md is run as it stands there, in the order of the page, on a host called mac."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.e2e.processes import orchestrator_role, pool_role, program
from tests.support.hub import running_hub
from tests.support.models import make
from tests.support.prompt import prompt
from tests.support.repositories import ENVIRONMENT, Upstream, git
from tests.support.sshd import ssh_host, why_not

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "from-scripts.md").read_text(encoding="utf-8")
ELSEWHERE = {
    "llorch hosts install mac": "test_hosts_install.py copies the executable",
    "llorch demo": "test_first_steps.py runs it",
}
TINYLLAMA = "TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF"
OLD_ACTIONS = {
    "llorch-models": "list catalog download info verify delete disk-usage",
    "llorch-git": "status pull sync submodules submodule-branch submodule-update submodule-reset clean branches log",
    "llorch-remote": "status pull sync models-list models-download models-info build smoke inference debug-inference "
    "logs info clean all",
}


def rows() -> list[tuple[str, list[str]]]:
    """Return the rows of the tables: what it was, and the commands that replace it."""
    lines = [line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
    return [(then, re.findall(r"`(llorch [^`]+)`", now)) for then, now in lines]


def test_every_action_of_the_scripts_has_its_row() -> None:
    told = " ".join(then for then, _ in rows())

    for script, actions in OLD_ACTIONS.items():
        middle = " mac.home.arpa" if script == "llorch-remote" else ""
        assert [action for action in actions.split() if f"`{script}{middle} {action}" not in told] == []
    assert [then for then, commands in rows() if not commands and "_" not in then] == []


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not()), reason=why_not())
async def test_every_replacement_does_its_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = Upstream(tmp_path / "far")
    upstream.add_submodule(Upstream(tmp_path / "far", "library"), "vendor/lib")
    work = upstream.clone(tmp_path / "app")
    config = tmp_path / "llorch.toml"
    async with (
        running_hub(tmp_path / "home", monkeypatch) as hub,
        orchestrator_role(tmp_path) as orchestrator,
        pool_role(tmp_path, orchestrator.url, "mac") as pool,
        ssh_host(tmp_path / "ssh") as host,
    ):
        hub.add(TINYLLAMA, {"tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf": make(tmp_path / "source.gguf")})
        config.write_text(
            f'[hosts.mac]\nurl = "{pool.url}"\nssh = "far"\n[client]\nurl = "{orchestrator.url}"\n'
            f'[pool]\ngit_repo = "{work}"\nport = {pool.url.rpartition(":")[2]}\ndata_dir = "{tmp_path / "data"}"\n'
            f'[orchestrator]\ndata_dir = "{tmp_path / "data"}"\n'
        )
        env = {**ENVIRONMENT, "LLORCH_CONFIG": str(config)}
        host.install(program(), {**env, **host.environment, "HF_HUB_OFFLINE": "1"})
        (work / "left").write_text("x")
        done: dict[str, int] = {}
        wrong: list[str] = []
        async with prompt({**env, **host.environment}) as run:
            for _, commands in rows():
                for command in commands:
                    if command in ELSEWHERE:
                        continue
                    workers = (await pool.workers()).workers
                    line = command.replace("/srv/app", str(work)).replace("http://blep:8080", orchestrator.url)
                    line = line.replace(" ID", f" {workers[0].worker_id}") if workers else line
                    finished = await run(*shlex.split(line)[1:])
                    done[command] = finished.status
                    if finished.status or not finished.stdout + finished.stderr:
                        wrong.append(f"{line}: {finished}")

    assert wrong == []
    assert len(done) > 30
    assert not (work / "left").exists()
    assert git(work / "vendor" / "lib", "log", "--format=%s") == "Begin"
