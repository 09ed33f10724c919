"""Every command as a person runs it, with wrong input too."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from tests.e2e.processes import run, whole_system

NOWHERE = ("--url", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nonsense"], 2, "no such command"),
        (["jobs", "submit", "--model", "haiku"], 2, "exactly one of --prompt and --messages"),
        (["jobs", "list", "--limit", "x"], 2, "not a valid int"),
        (["jobs", "show", "an-id", *NOWHERE], 1, "cannot be reached"),
        (["jobs", "submit", "--model", "haiku", "--prompt", "x", "--detach", *NOWHERE], 1, "cannot be reached"),
        (["serve", "orchestrator", "--host", "0.0.0.0"], 2, "without a token"),
        (["serve", "orchestrator", "--port", "70000"], 2, "65535"),
        (["serve", "worker", "--model", "/nowhere.gguf", "--port", "0"], 1, "there is no model file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_wrong_use_is_told_in_one_line(arguments: list[str], status: int, said: str) -> None:
    finished = await run(*arguments)

    assert finished.status == status
    assert said in finished.stderr
    assert finished.stderr.count("\n") == 1 or arguments[:2] == ["serve", "worker"]
    assert "Traceback" not in finished.stderr


async def test_a_typo_in_the_configuration_names_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "llorch.toml"
    file.write_text("[orchestrator]\nprot = 1\n")

    finished = await run("serve", "orchestrator", "--config", str(file))

    assert finished.status == 2
    assert f"{file}: [orchestrator] prot: unknown key; did you mean port?" in finished.stderr


async def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        finished = await run("serve", "orchestrator", "--port", port, "--data-dir", str(tmp_path))

    assert finished.status != 0
    assert "taken by another process" in finished.stderr


async def test_a_data_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    finished = await run("serve", "orchestrator", "--port", "0", "--data-dir", str(tmp_path / "file" / "x"))

    assert finished.status != 0
    assert "choose another with --data-dir" in finished.stderr
    assert "Traceback" not in finished.stderr


async def test_the_commands_of_the_readme_work_together(tmp_path: Path) -> None:
    async with whole_system(tmp_path) as whole:
        url = ("--url", whole.url)
        ask = ("--prompt", "Write a haiku about rain", "--temperature", "0")
        spoken = await run("jobs", "submit", "--model", "haiku", *ask, "--keep-alive", "5m", *url)
        as_json = await run("jobs", "submit", "--model", "haiku", *ask, "--json", *url)
        detached = await run("jobs", "submit", "--model", "haiku", "--prompt", "-", "--detach", *url, stdin=b"hello")
        job_id = detached.stdout.strip()
        shown = await run("jobs", "show", job_id, "--json", *url)
        listed = await run("jobs", "list", "--json", *url)
        cold_id = json.loads(listed.stdout)["tasks"][-1]["job_id"]
        facts = await run("jobs", "show", cold_id, *url)
        why = await run("jobs", "explain", cold_id, *url)
        cancelled = await run("jobs", "cancel", job_id, *url)
        unknown = await run("jobs", "cancel", "no-such-job", *url)
        pools = await run("pool", "list", "--json", *url)

    assert spoken.status == 0
    assert spoken.stdout.count("\n") >= 3
    assert " · first token after " in spoken.stderr
    events = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert "".join(e["data"]["t"] for e in events if e["event"] == "token").strip() == spoken.stdout.strip()
    assert json.loads(shown.stdout)["job_id"] == job_id
    assert job_id in listed.stdout
    assert re.search(r"until first token +.*spawn .*, load .*prefill", facts.stdout), facts.stdout
    assert re.search(r"Its first token came after \d+ ms: .*load \d+ ms", why.stdout), why.stdout
    assert cancelled.status == 0
    assert (unknown.status, unknown.stderr.count("\n")) == (1, 1)
    assert len(json.loads(pools.stdout)["pools"]) == 1
