"""When a pool starts: looks for the workers that an earlier process of it has left, and acts on what they are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from roles.pool.worker_lifecycle import contact, identity
from roles.pool.worker_lifecycle.adoption import Finding, judge
from roles.pool.worker_lifecycle.identity import Seen
from roles.pool.worker_lifecycle.ledger import Ledger, Saved
from roles.pool.worker_lifecycle.processes import AdoptedProcess, end_session, log_file
from roles.pool.worker_lifecycle.supervisor import Supervisor

ANSWER_TIMEOUT_S = 2.0
STRANGER_POLL_S = 5.0


async def take_over(ledger: Ledger, logs_dir: Path, supervisor: Supervisor) -> list[Finding]:
    """Take over what still runs, end what is left of what does not, and return what was left alone."""
    async with asyncio.TaskGroup() as tasks:
        looking = [tasks.create_task(examine(saved)) for saved in await ledger.read()]
    found = [task.result() for task in looking]
    for finding in found:
        record, process = finding.saved.record, finding.process
        if finding.fate == "adopt" and process is not None:
            log = log_file(logs_dir, record.worker_id)
            supervisor.adopt(finding, AdoptedProcess(process.pid, process.birth, log, record.uri))
            continue
        if finding.fate == "gone" and record.pid is not None:
            await asyncio.to_thread(end_session, record.pid, token=record.token)
        supervisor.adopt(finding, None)
    return [finding for finding in found if finding.fate == "strange"]


async def examine(saved: Saved) -> Finding:
    """Look for a saved worker: at its process, and at what it answers."""
    process = await asyncio.to_thread(_process, saved)
    health = None
    if process is not None and saved.record.uri:
        health = await contact.health(saved.record.uri, saved.record.token, timeout_s=ANSWER_TIMEOUT_S)
    return judge(saved, process, health)


async def watch_strangers(left: Sequence[Finding], supervisor: Supervisor) -> None:
    """Notice the end of processes that were left alone, until there is none."""
    while left:
        await asyncio.sleep(STRANGER_POLL_S)
        births = [await asyncio.to_thread(identity.birth, found.process.pid) for found in left if found.process]
        for found, birth in zip(left, births, strict=True):
            if found.process and birth != found.process.birth:
                supervisor.ended_alone(found.saved.record.worker_id)
        left = [
            found for found, birth in zip(left, births, strict=True) if found.process and birth == found.process.birth
        ]


def _process(saved: Saved) -> Seen | None:
    record = saved.record
    if record.pid is None or not saved.birth:
        return identity.find(record.worker_id, token=record.token)
    return identity.look(record.pid, worker_id=record.worker_id, token=record.token)
