"""What a pool's refusals, and its going away, mean for the models that it has."""

from __future__ import annotations

from dataclasses import replace

from roles.orchestrator.scheduler.facts import Facts
from roles.orchestrator.scheduler.progress import Loading
from tests.support.supplies import NOW_MS, decided, started, supply
from tests.support.worlds import GIB, demand, device, model, report


def test_a_model_whose_engine_does_not_compute_on_a_device_takes_it_from_no_other_model() -> None:
    devices = [device("gpu0", backend="cuda", gib=80), device("cpu", backend="cpu")]
    known = supply(p=Facts(devices=devices, models=[model("m"), model("large", gib=40)]))

    known.refused("m", ("p", "gpu0"), code="BACKEND_UNAVAILABLE", message="on the CPU only", now_ms=NOW_MS)

    assert started(decided(known, "large")) == [("p", "gpu0")]


def test_a_model_that_a_pool_deleted_while_it_takes_no_work_is_waited_for_no_more() -> None:
    known = supply(p=Facts(devices=[device()], models=[model("file:/m")]))
    known.leave("p", for_good=False, now_ms=NOW_MS)
    before = known.snapshot("file:/m", demand(), now_ms=NOW_MS)
    known.leave("p", for_good=False, now_ms=NOW_MS, refs=frozenset())
    after = known.snapshot("file:/m", demand(), now_ms=NOW_MS)

    assert (before.absent, after.absent) == (("p",), ())


def test_a_worker_that_another_pool_says_it_has_answers_no_question_to_the_pool_that_was_asked() -> None:
    facts = Facts(devices=[device("x", gib=8)], models=[model("m", gib=2)])
    known = supply(asked=facts, other=facts)
    known.asked("w", Loading("w", "asked", "m", "x"), need_bytes=2 * GIB, now_ms=NOW_MS)
    there = replace(facts, workers=[report("w", "m", gib=2, status="starting", device_id="x")])

    known.hear("other", there, now_ms=NOW_MS)
    promised = known.capacity.available(("asked", "x"))
    known.hear("asked", there, now_ms=NOW_MS)

    assert promised == 6 * GIB == known.capacity.available(("asked", "x"))
