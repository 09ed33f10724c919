"""How long an idle worker is kept: as the operator says of its model, or as the last request that said so."""

from __future__ import annotations

from llorch.policy import ModelPolicy
from roles.orchestrator.scheduler.decide import decide_idle
from roles.orchestrator.scheduler.decisions import Decision, Wait
from roles.orchestrator.scheduler.facts import Facts
from roles.orchestrator.scheduler.serving import MOST_KEPT
from roles.orchestrator.scheduler.supply import Supply
from tests.support.supplies import NOW_MS, decided
from tests.support.worlds import device, model, report


def test_the_last_request_that_says_so_rules_how_long_its_worker_is_kept() -> None:
    known = Supply({"m": ModelPolicy(keep_alive_s=10)}, ModelPolicy())
    facts = Facts(devices=[device(gib=2)], models=[model("m"), model("n", gib=2)], workers=[report("w", "m")])
    known.hear("p", facts, now_ms=NOW_MS)

    ends_after: list[float | None] = []
    for keep_alive_s in (None, 60, 0, -1, 5):
        if keep_alive_s is not None:
            known.serving.keep("w", keep_alive_s)
        known.hear("p", facts, now_ms=NOW_MS + 1)  # a heartbeat changes nothing of it
        due = [s for s in range(100) if stops(known, now_ms=NOW_MS + 1_000 * s)]
        ends_after.append(due[0] if due else None)
    known.serving.keep("w", -1)

    assert ends_after == [10, 60, 0, None, 5]
    assert [type(decision) for decision in decided(known, "n")] == [Wait]


def test_a_worker_that_comes_later_is_kept_as_was_said_of_it() -> None:
    known = Supply({"m": ModelPolicy(keep_alive_s=10)}, ModelPolicy())
    known.serving.keep("w", 60)
    known.hear("p", Facts(devices=[device()], models=[model("m")], workers=[report("w", "m")]), now_ms=NOW_MS)

    assert not stops(known, now_ms=NOW_MS + 59_000)
    assert stops(known, now_ms=NOW_MS + 60_000)


def test_what_was_said_of_many_workers_since_is_what_is_known() -> None:
    known = Supply({}, ModelPolicy(keep_alive_s=10))
    for number in range(MOST_KEPT + 1):
        known.serving.keep(f"w{number}", 60)
    workers = [report("w0", "m"), report("w1", "m")]
    known.hear("p", Facts(devices=[device()], models=[model("m")], workers=workers), now_ms=NOW_MS)

    found = [known.serving.get(name) for name in ("w0", "w1")]
    assert [known.serving.kept(worker).keep_alive_s for worker in found if worker] == [10, 60]


def test_what_is_said_of_a_worker_again_is_no_news() -> None:
    known = Supply({}, ModelPolicy())

    news = [known.serving.keep(*said) for said in (("w", 60), ("w", 60), ("v", 60), ("w", -1), ("w", -1), ("w", 60))]

    assert news == [True, False, True, True, False, True]


def stops(known: Supply, *, now_ms: int) -> list[Decision]:
    """Return what is decided about idle workers."""
    tenants = known.serving.expired(now_ms=now_ms)
    return [one for tenant in tenants for one in decide_idle(known.idle(tenant, 0, now_ms=now_ms))]
