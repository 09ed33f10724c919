"""Finds out what the names mean by which the operator wants something of models; asks again until each is known.

Pools are asked before the hub, as everywhere. After a start the hub is asked about a file at `main` only once pools
have had the time to come back, because what one of them has is what is meant.
"""

from __future__ import annotations

import asyncio

from llorch import log, models
from llorch.errors import LlorchError
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.fleet import Fleet
from roles.orchestrator.names import Names

LOOK_EVERY_S = 1.0
LOOK_AGAIN_S = 10.0
MOST_PAUSE_S = 60.0
_log = log.get("orchestrator.meanings")


async def keep_known(names: Names, fleet: Fleet, *, clock_ms: ClockMs) -> None:
    """Find out what each name means, and see what pools have newly; each by itself, so that none waits for another."""
    async with asyncio.TaskGroup() as tasks:
        for name, beside in fleet.supply.policies.loose():
            look = _keep_known(name, names, fleet, beside=beside, clock_ms=clock_ms)
            tasks.create_task(look, name=f"meaning of {name}")


async def _keep_known(name: str, names: Names, fleet: Fleet, *, beside: bool, clock_ms: ClockMs) -> None:
    failures, told = 0, ""
    while True:
        try:
            known = await look(name, names, fleet, beside=beside, now_ms=clock_ms())
        except LlorchError as error:
            if error.code != told:
                told = error.code
                _log.warning("model_name_not_known", name=name, code=error.code, reason=error.message)
            failures += 1
            await asyncio.sleep(pause_s(failures))
        else:
            failures, told = 0, ""
            await asyncio.sleep(LOOK_AGAIN_S if known else LOOK_EVERY_S)


async def look(name: str, names: Names, fleet: Fleet, *, beside: bool, now_ms: int) -> bool:
    """Find out what one name means, if it is time; tell whether that is known.

    Raises:
        LlorchError: As `Names.pinned` does.
    """
    here = names.here(name, beside=beside)
    if models.is_pinned(here):
        fleet.learn(name, here, beside=beside)
        return True
    supply = fleet.supply
    if supply.policies.meaning(name, beside=beside) is not None:
        return True
    if not fleet.online() or (models.is_newest(name) and now_ms < supply.settled_ms):
        return False
    await names.pinned(name, beside=beside)
    return True


def pause_s(failures: int) -> float:
    """Return how long not to ask after so many failures in a row."""
    return min(MOST_PAUSE_S, LOOK_EVERY_S * 2.0 ** min(failures, 10))
