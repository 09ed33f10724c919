"""Scheduling: each rule, the same decisions for the same snapshot, and never more than there is room for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.policy import ModelPolicy
from llorch.wire.pools import Backend
from roles.orchestrator.scheduler.decide import AGED_MS, REPLICA_QUEUE, decide, decide_idle, victims
from roles.orchestrator.scheduler.decisions import (
    Dispatch,
    DropRoom,
    MakeRoom,
    Reject,
    StartWorker,
    StopWorker,
    Wait,
)
from roles.orchestrator.scheduler.snapshot import (
    Eviction,
    IdleSnapshot,
    Place,
    Refusal,
    Room,
    Snapshot,
    Tenant,
    WorkerView,
)

NOW_MS = 1_000_000
GIB = 2**30


def worker(worker_id: str, *, free: int = 1, leases: int = 0, memory: int = GIB) -> WorkerView:
    return WorkerView(worker_id=worker_id, pool_id="p", free_slots=free, leases=leases, memory_free_bytes=memory)


def place(
    pool_id: str = "p",
    device: str = "d",
    *,
    backend: Backend = "cpu",
    has_file: bool = True,
    available: int = 2,
    need: int = 1,
) -> Place:
    return Place(
        pool_id=pool_id,
        device=device,
        backend=backend,
        has_file=has_file,
        available_bytes=available * GIB,
        need_bytes=need * GIB,
    )


def tenant(worker_id: str, *, gib: int = 1, leases: int = 0, last_used_ms: int = 0) -> Tenant:
    return Tenant(
        worker_id=worker_id,
        model_ref=f"model of {worker_id}",
        memory_bytes=gib * GIB,
        leases=leases,
        last_used_ms=last_used_ms,
        ready_ms=0,
    )


def no(code: str, message: str = "no", *, retry_at_ms: int = NOW_MS + 5_000, permanent: bool = False) -> Refusal:
    return Refusal(pool_id="p", code=code, message=message, retry_at_ms=retry_at_ms, permanent=permanent)


def look(**facts: object) -> Snapshot:
    """Return a snapshot in which one job has begun to wait for a model, one pool is online, and nothing else is."""
    base = Snapshot(
        now_ms=NOW_MS, model_ref="m", hungry_since_ms=NOW_MS, online=1, askable=1, need_bytes=GIB, largest_bytes=8 * GIB
    )
    return Snapshot(**{name: getattr(base, name) for name in base.__struct_fields__} | facts)


def started(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Return where a worker is started."""
    return [(d.pool_id, d.device) for d in decide(snapshot) if isinstance(d, StartWorker)]


def sent_to(*workers: WorkerView, heads: tuple[str, ...] = ("j",)) -> list[str]:
    """Return the workers that jobs are dispatched to."""
    found = decide(look(heads=heads, workers=workers, slots=9, waiting=len(heads)))
    return [decision.worker_id for decision in found if isinstance(decision, Dispatch)]


def test_rule_1_a_ready_worker_with_a_free_slot_gets_the_job_and_the_reason_is_told() -> None:
    found = decide(look(heads=("j",), workers=(worker("w", leases=1), worker("v", leases=1, memory=1)), slots=4))

    assert found == [Dispatch("j", "w", "p", 1, 2, 2)]
    assert found[0].text == "worker w of pool p was the least loaded of 2 with a free slot (1 of 2 taken)"


def test_rule_1_the_least_loaded_worker_comes_first_then_most_free_memory_then_the_name() -> None:
    assert sent_to(worker("a", leases=1), worker("b", free=2, leases=1), worker("c", free=3, leases=1)) == ["c"]
    assert sent_to(worker("a", memory=1), worker("b", memory=2), worker("c", memory=1)) == ["b"]
    assert sent_to(worker("b"), worker("a")) == ["a"]


def test_rule_1_each_job_counts_for_where_the_next_one_goes_until_the_slots_are_full() -> None:
    assert sent_to(worker("a", free=3), worker("b", free=3), heads=tuple("1234")) == ["a", "b", "a", "b"]
    assert sent_to(worker("a", free=2), worker("b", free=1, leases=1), heads=tuple("12345")) == ["a", "a", "b"]


def test_rule_2_idle_workers_in_the_way_are_ended_and_busy_ones_waited_for() -> None:
    room = Room(
        pool_id="p", device="d", tenants=(tenant("idle"), tenant("busy", leases=2), tenant("told")), told=("told",)
    )

    stop, wait = decide(look(room=room))

    assert isinstance(stop, StopWorker)
    assert (stop.worker_id, stop.reason) == ("idle", "room")
    assert isinstance(wait, Wait)
    assert wait.text == (
        "memory on d of pool p is being freed by model of busy, model of idle, model of told, "
        "which has 2 jobs to finish"
    )


def test_rule_2_once_the_room_is_there_the_worker_is_started_whatever_the_books_say() -> None:
    assert started(look(room=Room(pool_id="q", device="e"), places=())) == [("q", "e")]


def test_rule_2_room_that_nobody_waits_for_any_more_is_dropped() -> None:
    found = decide(look(waiting=0, room=Room(pool_id="p", device="d", tenants=(tenant("w"),))))

    assert found == [DropRoom("m", "no job waits for the model any more")]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [({"slots": 4, "busy": 1}, "slot"), ({"slots": 4, "busy": 1, "starting": 1}, "slot"), ({"starting": 1}, "loading")],
)
def test_rule_3_a_worker_that_has_the_model_is_waited_for(facts: dict[str, int], reason: str) -> None:
    (wait,) = decide(look(**facts, places=(place(),)))

    assert isinstance(wait, Wait)
    assert wait.reason == reason


@pytest.mark.parametrize(
    ("waiting", "starting", "most", "begun"),
    [
        (REPLICA_QUEUE * 4 + 1, 0, 2, True),
        (REPLICA_QUEUE * 4, 0, 2, False),
        (REPLICA_QUEUE * 4 + 1, 1, 2, False),
        (REPLICA_QUEUE * 4 + 1, 0, 1, False),
    ],
)
def test_rule_3_another_worker_is_started_when_many_jobs_wait(
    waiting: int, starting: int, most: int, begun: bool
) -> None:
    policy = ModelPolicy(max_replicas=most)

    found = started(look(waiting=waiting, slots=4, busy=1, starting=starting, policy=policy, places=(place(),)))

    assert found == ([("p", "d")] if begun else [])


def test_rule_3_no_other_worker_is_started_without_free_memory() -> None:
    assert started(look(waiting=99, slots=4, busy=1, evictions=(Eviction(place=place(), tenants=()),))) == []


def test_as_many_workers_are_kept_as_the_operator_wants_also_without_jobs() -> None:
    policy = ModelPolicy(min_replicas=2)

    assert started(look(waiting=0, policy=policy, places=(place(),))) == [("p", "d")]
    assert started(look(waiting=0, policy=policy, slots=4, busy=1, places=(place(),))) == [("p", "d")]
    assert started(look(waiting=0, policy=policy, slots=4, busy=1, starting=1, places=(place(),))) == []


@pytest.mark.parametrize(
    ("places", "chosen"),
    [
        ((place("a", has_file=False), place("b")), "b"),
        ((place("a"), place("b", backend="cuda", available=9)), "b"),
        ((place("a", available=9), place("b", available=3), place("c", available=4)), "b"),
        ((place("a", available=3, need=0), place("b", available=9, need=0)), "b"),
        ((place("b"), place("a")), "a"),
    ],
    ids=["the file", "then the best kind of device", "then the tightest fit", "most free if unknown", "then the name"],
)
def test_rule_4_the_best_place_is_taken(places: tuple[Place, ...], chosen: str) -> None:
    assert started(look(places=places)) == [(chosen, "d")]


def test_rule_5_idle_workers_make_room_and_it_is_told_which() -> None:
    eviction = Eviction(place=place(available=1, need=2), tenants=(tenant("old"), tenant("young")))

    made, stop, wait = decide(look(evictions=(eviction,)))

    assert isinstance(made, MakeRoom)
    assert (made.pool_id, made.device, made.need_bytes, made.worker_ids) == ("p", "d", 2 * GIB, ("old",))
    assert made.text == (
        "room for 2.0 GiB is made on d of pool p, where 1.0 GiB are available, by ending old (model of old)"
    )
    assert isinstance(stop, StopWorker)
    assert stop.worker_id == "old"
    assert isinstance(wait, Wait)


@pytest.mark.parametrize(
    ("sizes", "missing", "ended"),
    [
        ([1, 1, 1], 2, [0, 1]),
        ([1, 4, 1], 4, [1]),
        ([2, 1, 4], 5, [0, 2]),
        ([3, 1], 3, [0]),
    ],
)
def test_rule_5_no_more_workers_end_than_are_needed(sizes: list[int], missing: int, ended: list[int]) -> None:
    tenants = tuple(tenant(f"{n}", gib=size) for n, size in enumerate(sizes))

    found = victims(Eviction(place=place(available=0, need=missing), tenants=tenants))

    assert [int(one.worker_id) for one in found] == ended


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 60), st.integers(0, 20))
def test_rule_5_what_ends_is_enough_and_nothing_of_it_is_too_much(sizes: list[int], need: int, available: int) -> None:
    tenants = tuple(tenant(f"{n}", gib=size) for n, size in enumerate(sizes))

    found = victims(Eviction(place=place(available=available, need=need), tenants=tenants))

    freed = sum(one.memory_bytes for one in found) // GIB
    if available + sum(sizes) >= need:
        assert available + freed >= need
        assert all(available + freed - one.memory_bytes // GIB < need for one in found)


@pytest.mark.parametrize(("waited_ms", "turned"), [(AGED_MS - 1, False), (AGED_MS, True)])
def test_rule_6_a_job_that_has_waited_long_enough_ends_the_turn_of_another_model(waited_ms: int, turned: bool) -> None:
    turn = Eviction(place=place(available=0, need=1), tenants=(tenant("busy", leases=1),))

    found = decide(look(hungry_since_ms=NOW_MS - waited_ms, turns=(turn,)))

    assert [type(decision) for decision in found] == ([MakeRoom, Wait] if turned else [Wait])


def test_rule_7_when_every_pool_has_refused_for_good_the_most_telling_refusal_ends_the_jobs() -> None:
    absent = no("MODEL_NOT_FOUND", "a: no such file", permanent=True)
    broken = no("MODEL_INVALID", "b: truncated", permanent=True)

    assert decide(look(askable=0, refusals=(absent, broken))) == [Reject("m", "MODEL_INVALID", "b: truncated")]


@pytest.mark.parametrize(
    ("facts", "reason", "text"),
    [
        ({"absent": ("far",)}, "pool", "pool far has the model and is offline or draining; no such file"),
        ({"returning": True}, "pool", "pools may yet come back since the orchestrator was restarted"),
    ],
)
def test_rule_7_while_a_pool_is_away_that_may_have_the_file_jobs_wait(
    facts: dict[str, object], reason: str, text: str
) -> None:
    refusal = no("MODEL_NOT_FOUND", "no such file", permanent=True)

    assert decide(look(askable=0, refusals=(refusal,), **facts)) == [Wait("m", reason, text)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "reason", "text"),
    [
        ({"online": 0, "askable": 0}, "pool", "no pool is online; start one with: llorch serve pool"),
        (
            {"online": 0, "askable": 0, "absent": ("a", "b")},
            "pool",
            "no pool is online; pool a, b has it and is offline or draining; start one with: llorch serve pool",
        ),
        (
            {"need_bytes": 9 * GIB},
            "memory",
            "it needs 9.0 GiB and the largest device that is online has 8.0 GiB",
        ),
        (
            {"askable": 0, "refusals": (no("MODEL_NOT_FOUND", permanent=True), no("ENGINE_FAILED", "it died"))},
            "backoff",
            "it died; asked again in 5 s",
        ),
        ({}, "memory", "1.0 GiB are free nowhere, and what holds the memory has jobs to do"),
    ],
)
def test_rule_8_the_reason_for_waiting_is_told(facts: dict[str, object], reason: str, text: str) -> None:
    assert decide(look(**facts)) == [Wait("m", reason, text)]  # type: ignore[arg-type]


def test_jobs_that_rest_between_attempts_need_nothing_while_slots_are_free() -> None:
    assert decide(look(workers=(worker("w"),), slots=1)) == []


@pytest.mark.parametrize(
    ("facts", "ended"),
    [
        ({}, True),
        ({"waiting": 1}, False),
        ({"tenant": tenant("w", last_used_ms=NOW_MS - 299_999)}, False),
        ({"tenant": tenant("w", leases=1, last_used_ms=NOW_MS - 300_000)}, False),
        ({"policy": ModelPolicy(keep_alive_s=-1)}, False),
        ({"policy": ModelPolicy(min_replicas=1)}, False),
        ({"policy": ModelPolicy(min_replicas=1), "workers": 2}, True),
        ({"policy": ModelPolicy(keep_alive_s=0), "tenant": tenant("w", last_used_ms=NOW_MS)}, True),
        ({"policy": ModelPolicy(keep_alive_s=301)}, False),
    ],
)
def test_a_worker_without_jobs_ends_when_its_time_is_up(facts: dict[str, object], ended: bool) -> None:
    base: dict[str, object] = {
        "now_ms": NOW_MS,
        "tenant": tenant("w", last_used_ms=NOW_MS - 300_000),
        "policy": ModelPolicy(),
        "waiting": 0,
        "workers": 1,
    }

    found = decide_idle(IdleSnapshot(**base | facts))  # type: ignore[arg-type]

    assert [decision.worker_id for decision in found if isinstance(decision, StopWorker)] == (["w"] if ended else [])
