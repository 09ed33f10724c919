"""What `llorch jobs purge` does: count, ask, erase until nothing is left of it."""

from __future__ import annotations

from collections import Counter

import msgspec

from llorch.client import Client
from llorch.wire.operations import FinalState, Purge, Purged

TIMEOUT_S = 120.0
PATH = "/v2/tasks/purge"


async def count(client: Client, wanted: Purge) -> Purged:
    """Return what would be erased."""
    dry = msgspec.structs.replace(wanted, dry_run=True)
    return await client.send("POST", PATH, Purged, body=dry, timeout_s=TIMEOUT_S)


async def erase(client: Client, wanted: Purge) -> Purged:
    """Erase what is wanted, in as many calls as it takes; return what was."""
    jobs: Counter[FinalState] = Counter()
    outputs, more = 0, True
    while more:
        done = await client.send("POST", PATH, Purged, body=wanted, timeout_s=TIMEOUT_S)
        jobs.update(done.jobs)
        outputs, more = outputs + done.outputs, done.more
    return Purged(jobs=dict(jobs), outputs=outputs)


def counts(found: Purged) -> str:
    """Return how many jobs, by how they ended: `1,204 completed, 3 failed`."""
    return ", ".join(f"{number:,} {state}" for state, number in sorted(found.jobs.items()))


def question(found: Purged, wanted: Purge) -> str:
    """Return what to ask before erasing."""
    if wanted.outputs_only:
        return f"Erase the texts of {counts(found)} jobs, and keep their records?"
    return f"Erase {counts(found)} jobs ({found.outputs:,} with text)?"


def summary(found: Purged, wanted: Purge, *, counted_only: bool) -> str:
    """Return what was erased, or would be."""
    if not found.jobs:
        return "nothing to erase"
    what = f"the texts of {counts(found)} jobs" if wanted.outputs_only else f"{counts(found)} jobs"
    return f"{'would erase' if counted_only else 'erased'} {what}"
