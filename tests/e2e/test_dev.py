"""`llorch dev`: a backup of a busy orchestrator put back elsewhere, and the doctor's verdicts."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from roles.orchestrator.app import DATABASE
from tests.e2e.processes import Role, orchestrator_role, pool_role, role, run, text_of, whole_system
from tests.integration.test_orchestrator_state_maintenance import damage

HAIKU = {"model": "haiku", "prompt": "Write a haiku about rain", "temperature": 0}
ANY_PORT = {"LLORCH_ORCHESTRATOR_PORT": "0", "LLORCH_POOL_PORT": "0"}


async def _submit_until(orchestrator: Role, enough: asyncio.Event) -> int:
    count = 0
    while not enough.is_set():
        await orchestrator.submit(**HAIKU)
        count += 1
    return count


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_backup_taken_during_load_is_restored_elsewhere_and_its_jobs_run(tmp_path: Path) -> None:
    copy, home = tmp_path / "copy.db", tmp_path / "elsewhere"
    async with orchestrator_role(tmp_path) as busy:
        first = [await busy.submit(**HAIKU) for _ in range(3)]
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            load = [tasks.create_task(_submit_until(busy, enough)) for _ in range(4)]
            backed_up = await run("dev", "backup", str(copy), "--data-dir", str(tmp_path / "orchestrator"))
            enough.set()
        refused = await run("dev", "restore", str(copy), "--data-dir", str(tmp_path / "orchestrator"))
        again = await run("dev", "backup", str(copy), "--data-dir", str(tmp_path / "orchestrator"))
    restored = await run("dev", "restore", str(copy), "--data-dir", str(home), "--json")
    async with (
        role("orchestrator", "--port", "0", "--data-dir", str(home), log=tmp_path / "log") as other,
        pool_role(tmp_path, other.url),
    ):
        texts = [text_of(await other.events(job.job_id)) for job in first]
        states = [(await other.task(job.job_id)).status for job in first]

    assert backed_up.status == 0, backed_up.stderr
    assert " queued" in backed_up.stdout
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sum(task.result() for task in load) > 0
    assert (refused.status, refused.stderr.count("\n")) == (1, 1)
    assert "used by another orchestrator (process " in refused.stderr
    assert (again.status, "nothing was overwritten" in again.stderr) == (1, True)
    assert restored.status == 0, restored.stderr
    assert json.loads(restored.stdout)["jobs"]["queued"] >= len(first)
    assert states == ["completed"] * 3
    assert all(texts)


async def test_a_sound_system_passes_every_check(tmp_path: Path) -> None:
    async with whole_system(tmp_path) as whole:
        where = ("--url", whole.url, "--data-dir", str(tmp_path / "all"))
        shown = await run("dev", "doctor", *where, env=ANY_PORT)
        as_json = json.loads((await run("dev", "doctor", "--json", *where, env=ANY_PORT)).stdout)

    assert shown.status == 0, shown.stdout
    states = {result["check"]: result["state"] for result in as_json}
    assert {name for name, state in states.items() if state != "ok"} == {"hub", "git", "hosts"}
    assert {states[name] for name in ("hub", "git", "hosts")} == {"skipped"}
    names = [result["check"] for result in as_json]
    assert names[:2] == ["configuration", "version"]
    assert {"engine", "demo model", "database", "orchestrator", "clock", "engines", "cpu"} <= set(names)
    assert shown.stdout.count("\n") == len(as_json)
    assert "in use" in next(result["found"] for result in as_json if result["check"] == "database")


async def test_each_failure_has_a_command_and_the_status_is_one(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as orchestrator:
        await orchestrator.submit(**HAIKU)
    damage(tmp_path / "orchestrator" / DATABASE)
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    config = tmp_path / "llorch.toml"
    config.write_text(f'[auth]\ntoken_file = "{token}"\n')

    where = ("--data-dir", str(tmp_path / "orchestrator"), "--url", "http://127.0.0.1:1")
    broken = await run("dev", "doctor", *where, env=ANY_PORT)
    unreadable = await run("dev", "doctor", "--config", str(config), "--json")

    assert broken.status == 1
    assert "Traceback" not in broken.stderr
    assert broken.stdout.count("FAILED") == broken.stdout.count("fix: ") == 2
    assert "llorch dev restore BACKUP" in broken.stdout
    found = json.loads(unreadable.stdout)
    assert unreadable.status == 1
    assert found[0] == {
        "check": "configuration",
        "state": "failed",
        "found": f"{token}: others can read the token",
        "fix": f"chmod 600 {token}",
    }
    assert {result["state"] for result in found if result["check"] in {"version", "engine", "demo model"}} == {"ok"}
    assert {result["state"] for result in found if result["check"] in {"token", "database"}} == {"skipped"}


async def test_a_backup_of_nothing_is_told_in_one_line(tmp_path: Path) -> None:
    finished = await run("dev", "backup", str(tmp_path / "copy.db"), "--data-dir", str(tmp_path / "nothing"))

    assert finished.status == 1
    assert finished.stderr == f"llorch: there is no {tmp_path / 'nothing' / DATABASE}\n"
    assert list(tmp_path.iterdir()) == []
