"""A supply that some pools have told of themselves, and what is decided from it."""

from __future__ import annotations

from llorch.policy import ModelPolicy
from roles.orchestrator.scheduler.decide import decide
from roles.orchestrator.scheduler.decisions import Decision, StartWorker
from roles.orchestrator.scheduler.facts import Facts
from roles.orchestrator.scheduler.supply import Supply
from tests.support.worlds import demand

NOW_MS = 1_000_000


def supply(**pools: Facts) -> Supply:
    """Return a supply that some pools have told of themselves."""
    found = Supply({}, ModelPolicy())
    for pool_id, facts in pools.items():
        found.hear(pool_id, facts, now_ms=NOW_MS)
    return found


def decided(known: Supply, ref: str = "m", *, now_ms: int = NOW_MS, **wanted: object) -> list[Decision]:
    """Return what is decided for a model."""
    return decide(known.snapshot(ref, demand(**{"oldest_ms": now_ms} | wanted), now_ms=now_ms))  # type: ignore[arg-type]


def started(decisions: list[Decision]) -> list[tuple[str, str]]:
    return [(d.pool_id, d.device) for d in decisions if isinstance(d, StartWorker)]
