"""`llorch jobs export` and `llorch jobs purge` against a running system."""

from __future__ import annotations

import csv
import io
import json
import signal
import stat
from pathlib import Path

from llorch.wire.tasks import TaskPage
from tests.e2e.processes import orchestrator_role, run, whole_system
from tests.e2e.terminal import terminal
from tests.e2e.test_resume import again, started

HAIKU = {"model": "haiku", "prompt": "Write a haiku about rain", "temperature": 0}


async def test_records_and_texts_come_out_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    async with whole_system(tmp_path) as whole:
        url = ("--url", whole.url)
        jobs = [(await whole.submit(**HAIKU, seed=number)).job_id for number in range(3)]
        said = (await run("jobs", "follow", jobs[0], *url)).stdout
        for job_id in jobs:
            await whole.events(job_id)
        lines = await run("jobs", "export", "--with-output", *url)
        to_file = await run("jobs", "export", "--status", "completed", "--since", "1h", "--output", str(file), *url)
        refused = await run("jobs", "export", "--output", str(file), *url)
        table = await run("jobs", "export", "--csv", "--with-output", *url)
        none = await run("jobs", "export", "--until", "1h", *url)
        purged = await run("jobs", "purge", "--older-than", "0s", "--outputs-only", "--yes", *url)
        without = await run("jobs", "export", "--with-output", *url)

    records = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [record["job_id"] for record in records] == jobs[::-1]
    assert records[-1]["output"].strip() == said.strip()
    assert lines.stderr == "3 jobs\n"
    assert to_file.stdout == ""
    assert [json.loads(line)["job_id"] for line in file.read_text().splitlines()] == jobs[::-1]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (refused.status, refused.stderr.count("\n")) == (1, 1)
    assert "--force" in refused.stderr
    rows = list(csv.DictReader(io.StringIO(table.stdout, newline="")))
    assert [(row["job_id"], row["output"]) for row in rows] == [(r["job_id"], r["output"]) for r in records]
    assert (none.stdout, none.stderr) == ("", "0 jobs\n")
    assert purged.stdout == "erased the texts of 3 completed jobs\n"
    assert [json.loads(line)["output"] for line in without.stdout.splitlines()] == [None] * 3
    assert list(tmp_path.glob("*.partial")) == []


async def test_an_export_of_many_pages_outlasts_a_killed_orchestrator(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as first:
        jobs = {(await first.submit(**HAIKU)).job_id for _ in range(450)}
        exporting = await started("jobs", "export", "--url", first.url)
        assert exporting.stdout is not None
        begun = await exporting.stdout.readline()
        await first.stop(signal.SIGKILL)
        async with again(tmp_path, first.url):
            rest, _ = await exporting.communicate()

    found = [json.loads(line)["job_id"] for line in (begun + rest).splitlines()]
    assert len(found) == len(jobs)
    assert set(found) == jobs
    assert exporting.returncode == 0


async def test_a_purge_asks_and_erases_only_after_a_yes(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as orchestrator:
        ended, waiting = await orchestrator.submit(**HAIKU), await orchestrator.submit(**HAIKU)
        await orchestrator.cancel(ended.job_id)
        arguments = ("jobs", "purge", "--older-than", "0s", "--url", orchestrator.url)
        unasked = await run(*arguments)
        counted = await run(*arguments, "--dry-run")
        living = await run(*arguments, "--status", "queued", "--yes")
        async with terminal(*arguments) as shown:
            await shown.until(lambda seen: "[y/N]" in seen)
            shown.press(b"n\r")
            refused = await shown.ended()
        kept = await orchestrator.client.send("GET", "/v2/tasks", TaskPage)
        async with terminal(*arguments, "--json") as shown:
            await shown.until(lambda seen: "[y/N]" in seen)
            shown.press(b"y\r")
            agreed = await shown.ended()
        left = await orchestrator.client.send("GET", "/v2/tasks", TaskPage)

    assert (unasked.status, unasked.stderr.count("\n")) == (2, 1)
    assert counted.stdout == "would erase 1 cancelled jobs\n"
    assert (living.status, "cancel them first" in living.stderr) == (2, True)
    assert (refused, agreed) == (1, 0)
    assert len(kept.tasks) == 2
    assert [task.job_id for task in left.tasks] == [waiting.job_id]
    assert json.loads(shown.lines[-2]) == {"jobs": {"cancelled": 1}, "outputs": 0, "more": False}
