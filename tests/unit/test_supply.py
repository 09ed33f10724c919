"""Placement as a whole: what is known of supply, the decisions made from it, and what comes of them over a day."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from llorch.job import JobId
from llorch.policy import ModelPolicy
from roles.orchestrator.scheduler.decide import AGED_MS, TURN_MS
from roles.orchestrator.scheduler.decisions import MakeRoom, Reject, StopWorker, Wait
from roles.orchestrator.scheduler.facts import Facts
from roles.orchestrator.scheduler.journal import Entry, replay
from roles.orchestrator.scheduler.progress import Loading
from roles.orchestrator.scheduler.supply import Supply
from tests.support.supplies import NOW_MS, decided, started, supply
from tests.support.worlds import GIB, World, demand, device, model, report


def ended(world: World) -> list[str]:
    """Return the models whose workers were told to end, in order."""
    return [decision.model_ref for _, decision in world.acts if isinstance(decision, StopWorker)]


def test_the_tightest_device_of_all_pools_is_taken_and_promised_until_a_heartbeat_shows_the_worker() -> None:
    known = supply(
        big=Facts(devices=[device("x", gib=8), device("y", gib=3)], models=[model("m", gib=2)]),
        small=Facts(devices=[device("z", gib=1)], models=[model("m", gib=2)]),
    )

    first = decided(known)
    known.asked("w", Loading("w", "big", "m", "y"), need_bytes=2 * GIB, now_ms=NOW_MS)
    second = known.snapshot("other", demand(), now_ms=NOW_MS)
    promised = known.capacity.available(("big", "y"))
    facts = Facts(
        devices=[device("x", gib=8), device("y", gib=3)],
        models=[model("m", gib=2)],
        workers=[report("w", "m", gib=2, status="starting", device_id="y")],
    )
    known.hear("big", facts, now_ms=NOW_MS)

    assert started(first) == [("big", "y")]
    assert promised == GIB == known.capacity.available(("big", "y"))
    assert second.starting == 0
    assert known.snapshot("m", demand(), now_ms=NOW_MS).starting == 1


def test_the_pool_that_has_the_file_goes_before_one_that_may_have_it() -> None:
    known = supply(a=Facts(devices=[device()]), b=Facts(devices=[device(gib=4)], models=[model("file:/m", gib=2)]))

    assert started(decided(known, "file:/m")) == [("b", "d")]


def test_a_model_that_no_pool_lists_is_asked_for_everywhere_most_memory_first_then_rejected() -> None:
    known = supply(a=Facts(devices=[device(gib=2)]), b=Facts(devices=[device(gib=4)]))
    asked: list[tuple[str, str]] = []

    for _ in range(2):
        (where,) = started(decided(known))
        asked.append(where)
        known.refused("m", where, code="MODEL_NOT_FOUND", message="no such file", now_ms=NOW_MS)

    assert asked == [("b", ""), ("a", "")]
    assert decided(known) == [Reject("m", "MODEL_NOT_FOUND", "no such file")]


def test_no_more_workers_are_kept_than_are_wanted_however_many_are_free() -> None:
    known = Supply({"m": ModelPolicy(min_replicas=80)}, ModelPolicy())
    devices = [device(f"d{number}", gib=2) for number in range(100)]
    workers = [report(f"w{number}", "m", device_id=f"d{number}") for number in range(80)]

    known.hear("p", Facts(devices=devices, models=[model("m")], workers=workers[:-1]), now_ms=NOW_MS)
    one_less = started(decided(known, waiting=0))
    known.hear("p", Facts(devices=devices, models=[model("m")], workers=workers), now_ms=NOW_MS)
    enough = started(decided(known, waiting=0))

    assert len(one_less) == 1
    assert enough == []


def test_a_model_that_a_pool_has_which_is_offline_waits_visibly() -> None:
    known = supply(a=Facts(devices=[device()]), b=Facts(devices=[device()], models=[model("m")]))
    known.leave("b", for_good=False, now_ms=NOW_MS)
    known.refused("m", ("a", ""), code="MODEL_NOT_FOUND", message="no such file", now_ms=NOW_MS)

    (wait,) = decided(known)
    known.leave("b", for_good=True, now_ms=NOW_MS)

    assert wait == Wait("m", "pool", "pool b has the model and is offline or draining; no such file")
    assert isinstance(decided(known)[0], Reject)


def test_a_job_from_before_a_restart_is_not_rejected_while_pools_may_come_back() -> None:
    known = Supply({}, ModelPolicy(), started_ms=NOW_MS, settle_ms=45_000)
    known.hear("a", Facts(devices=[device()]), now_ms=NOW_MS)
    known.refused("m", ("a", ""), code="MODEL_NOT_FOUND", message="no such file", now_ms=NOW_MS)

    old = decided(known, oldest_ms=NOW_MS - 1)
    new = decided(known, oldest_ms=NOW_MS)
    later = decided(known, oldest_ms=NOW_MS - 1, now_ms=NOW_MS + 45_000)

    assert [type(decision) for decision in [*old, *new, *later]] == [Wait, Reject, Reject]


def test_a_device_where_a_start_failed_is_left_out_for_a_growing_time_and_others_are_not() -> None:
    facts = Facts(devices=[device("x"), device("y", gib=9)], models=[model("m")])
    failing = Facts(
        devices=facts.devices, models=facts.models, workers=[report("w", "m", status="starting", device_id="x")]
    )
    known = supply(p=failing)
    known.hear("p", msgspec_failed(failing), now_ms=NOW_MS)

    assert started(decided(known)) == [("p", "y")]
    assert started(decided(known, now_ms=NOW_MS + 2_000)) == [("p", "x")]


def msgspec_failed(facts: Facts) -> Facts:
    """Return the same pool after its workers have failed to start."""
    workers = [msgspec.structs.replace(w, status="failed", error="it broke") for w in facts.workers]
    return Facts(devices=facts.devices, models=facts.models, workers=workers)


def test_workers_that_had_failed_before_a_pool_registered_hold_nothing_up() -> None:
    known = supply(
        p=Facts(devices=[device()], models=[model("m")], workers=[report("w", "m", status="failed")]),
    )

    assert started(decided(known)) == [("p", "d")]


def test_a_kind_of_device_that_no_engine_computes_on_is_not_asked_again_and_the_processor_is() -> None:
    devices = [device("gpu0", backend="cuda"), device("gpu1", backend="cuda"), device("cpu", backend="cpu")]
    known = supply(p=Facts(devices=devices, models=[model("m")]))

    first = started(decided(known))
    known.close(("p", "gpu0"))
    known.refused("m", ("p", "gpu0"), code="BACKEND_UNAVAILABLE", message="no cuda here", now_ms=NOW_MS)
    second = started(decided(known))

    assert (first, second) == ([("p", "gpu0")], [("p", "cpu")])


def test_what_a_pool_says_that_a_model_needs_is_learnt_and_decided_with() -> None:
    known = supply(p=Facts(devices=[device(gib=4)], workers=[report("idle", "other", gib=3)]))

    first = started(decided(known))
    known.refused("m", ("p", ""), code="INSUFFICIENT_MEMORY", message="no", now_ms=NOW_MS, need_bytes=2 * GIB)
    second = decided(known)

    assert first == [("p", "")]
    assert isinstance(second[0], MakeRoom)
    assert second[0].worker_ids == ("idle",)


def test_the_least_recently_used_idle_worker_ends_never_one_with_a_lease_nor_a_pinned_one() -> None:
    known = Supply({"pinned": ModelPolicy(keep_alive_s=-1)}, ModelPolicy())
    workers = [report(name, name, gib=2) for name in ("pinned", "leased", "young", "old")]
    known.hear("p", Facts(devices=[device(gib=8)], models=[model("m", gib=2)], workers=workers), now_ms=NOW_MS)
    for name, after_ms in (("leased", 0), ("pinned", 1), ("old", 2), ("young", 3)):
        known.serving.lease(name, JobId("j"))
        if name != "leased":
            known.released(name, JobId("j"), now_ms=NOW_MS + after_ms)

    made, stop, _ = decided(known)

    assert isinstance(made, MakeRoom)
    assert made.worker_ids == ("old",)
    assert isinstance(stop, StopWorker)
    assert stop.worker_id == "old"


def test_a_worker_whose_model_has_jobs_waiting_is_not_idle_and_one_for_a_model_too_large_does_not_end() -> None:
    workers = [report("w", "other", gib=4)]
    known = supply(p=Facts(devices=[device(gib=4)], models=[model("m", gib=2), model("huge", gib=5)], workers=workers))

    assert [type(decision) for decision in decided(known, waits={"other": 1})] == [Wait]
    assert [type(decision) for decision in decided(known, "huge")] == [Wait]


def test_between_a_decision_and_the_heartbeat_nothing_is_asked_twice_and_nobody_else_takes_the_memory() -> None:
    known = supply(
        p=Facts(
            devices=[device(gib=4)], models=[model("m", gib=3), model("n", gib=3)], workers=[report("w", "o", gib=4)]
        )
    )
    made, stop, _ = decided(known)
    assert isinstance(made, MakeRoom)
    assert isinstance(stop, StopWorker)
    known.rooms.make(made)
    known.rooms.stopping("w", now_ms=NOW_MS)

    again, other, own = decided(known), decided(known, "n"), known.snapshot("o", demand(), now_ms=NOW_MS)
    gone = Facts(devices=[device(gib=4)], models=[model("m", gib=3), model("n", gib=3)])
    known.hear("p", gone, now_ms=NOW_MS)

    assert [type(decision) for decision in [*again, *other]] == [Wait, Wait]
    assert own.workers == ()
    assert [type(decision) for decision in decided(known, "n")] == [Wait]
    assert started(decided(known)) == [("p", "d")]


def test_room_that_is_not_wanted_any_more_gives_the_workers_back_that_were_not_told_to_end() -> None:
    known = supply(
        p=Facts(devices=[device(gib=4)], models=[model("m", gib=4)], workers=[report("w", "o", gib=2)]),
    )
    made = decided(known)[0]
    assert isinstance(made, MakeRoom)
    known.rooms.make(made)

    known.rooms.drop("m", now_ms=NOW_MS)

    assert [view.worker_id for view in known.snapshot("o", demand(), now_ms=NOW_MS).workers] == ["w"]
    assert known.capacity.available(("p", "d")) == 2 * GIB


def test_a_lost_worker_gets_nothing_until_its_pool_says_that_it_is_there() -> None:
    facts = Facts(devices=[device()], models=[model("m")], workers=[report("w", "m")])
    known = supply(p=facts)

    known.lost("w")
    silent = known.snapshot("m", demand(), now_ms=NOW_MS).workers
    known.hear("p", facts, now_ms=NOW_MS)

    assert silent == ()
    assert [view.worker_id for view in known.snapshot("m", demand(), now_ms=NOW_MS).workers] == ["w"]


def test_a_lease_from_before_the_worker_was_known_counts() -> None:
    known = supply()
    known.serving.lease("w", JobId("j"))

    known.hear("p", Facts(devices=[device()], workers=[report("w", "m", slots=1)]), now_ms=NOW_MS)

    assert known.snapshot("m", demand(), now_ms=NOW_MS).busy == 1


def test_another_worker_of_a_hot_model_goes_to_another_device() -> None:
    facts = Facts(devices=[device("x"), device("y", gib=9)], models=[model("m")])
    hot = Facts(devices=facts.devices, models=facts.models, workers=[report("w", "m", device_id="x", slots=1)])
    known = supply(p=hot)
    known.serving.lease("w", JobId("j"))

    assert started(decided(known, waiting=3)) == [("p", "y")]
    assert started(decided(known, waiting=2)) == []


def test_jobs_of_one_model_are_served_together_before_another_gets_the_memory() -> None:
    world = World(pools={"p": 4}, models={"a": 4, "b": 4}, job_ms=1_000)
    for _ in range(20):
        world.come("a")
        world.come("b")

    world.run(60_000)

    assert len(world.waited_ms) == 40
    assert ended(world) == ["a"]


@pytest.mark.parametrize("rivals", [1, 3])
def test_no_model_starves_however_many_jobs_others_have(rivals: int) -> None:
    models = {f"hot {n}": 4.0 for n in range(rivals)} | {"rare": 4.0}
    world = World(pools={"p": 4}, models=models, job_ms=3_000)
    bound_ms = AGED_MS + (rivals + 1) * (TURN_MS + world.job_ms + world.load_ms + 2_000)

    rare: list[str] = []
    for second in range(600):
        for n in range(rivals):
            if len(world.queue) < 200:
                world.come(f"hot {n}")
        if second in {100, 300}:
            rare.append(world.come("rare"))
        world.run(1_000)

    assert [world.waited_ms[job_id] <= bound_ms for job_id in rare] == [True, True], world.waited_ms


def test_a_worker_without_jobs_ends_after_its_time_and_one_that_is_wanted_does_not() -> None:
    policies = {"short": ModelPolicy(keep_alive_s=10), "kept": ModelPolicy(keep_alive_s=-1)}
    world = World(pools={"p": 9}, models={"short": 1, "long": 1, "kept": 1}, policies=policies)
    for ref in world.models:
        world.come(ref)

    world.run(60_000)
    soon = ended(world)
    world.run(400_000)

    assert soon == ["short"]
    assert ended(world) == ["short", "long"]


@pytest.mark.parametrize("seed", range(6))
def test_a_random_day_serves_every_job_over_commits_nothing_and_can_be_decided_on_again(seed: int) -> None:
    random = Random(seed)
    sizes = [float(random.randint(1, 6)) for _ in range(6)]
    world = World(
        pools={f"p{n}": float(size) for n, size in enumerate((4, 6, 8))},
        models={f"m{n}": size for n, size in enumerate(sizes)},
        job_ms=random.choice([500, 2_000, 9_000]),
        load_ms=random.choice([500, 5_000]),
    )
    jobs: list[str] = []
    for _ in range(60):
        jobs += [
            world.come(f"m{random.randrange(6)}", random.choice([None, "s"]))
            for _ in range(random.choice([0, 0, 1, 5]))
        ]
        world.run(random.choice([500, 2_000, 10_000]))
    world.run(600_000)

    entries = world.journal.entries(512)
    stored = [msgspec.json.decode(msgspec.json.encode(entry), type=Entry) for entry in entries]
    assert world.waited_ms.keys() == set(jobs)
    assert [replay(entry) for entry in stored] == [entry.decisions for entry in entries]
    assert [entry.digest for entry in stored] == [entry.digest for entry in entries]


def test_a_file_of_unknown_size_is_asked_for_also_where_more_is_held_than_there_is() -> None:
    held = report("w", "n", gib=9)
    known = supply(p=Facts(devices=[device(gib=8, free_gib=0)], models=[], workers=[held]))

    first = started(decided(known, "file:/m.gguf"))
    known.refused("file:/m.gguf", ("p", ""), code="INSUFFICIENT_MEMORY", message="no", now_ms=NOW_MS, need_bytes=GIB)
    second = decided(known, "file:/m.gguf")

    assert first == [("p", "")]
    assert isinstance(second[0], MakeRoom)
    assert second[0].worker_ids == ("w",)
