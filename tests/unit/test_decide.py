"""Scheduling: each rule, the same decisions for the same snapshot, and never more than there is room for."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.job import JobId
from roles.orchestrator.scheduler.decide import Decision, Dispatch, Reject, StartWorker, Wait, decide
from roles.orchestrator.scheduler.snapshot import ModelView, PoolView, Refusal, Snapshot, WorkerView

NOW_MS = 1_000
GIB = 2**30


def jobs(*names: str) -> tuple[JobId, ...]:
    return tuple(JobId(name) for name in names)


def worker(worker_id: str, *, free: int = 1, leases: int = 0, memory: int = GIB) -> WorkerView:
    return WorkerView(worker_id=worker_id, pool_id="p", free_slots=free, leases=leases, memory_free_bytes=memory)


def pool(pool_id: str, *, has_file: bool = False, memory: int = GIB, refusal: Refusal | None = None) -> PoolView:
    return PoolView(pool_id=pool_id, has_file=has_file, memory_free_bytes=memory, refusal=refusal)


def no(code: str, message: str = "no", *, retry_at_ms: int = 0, permanent: bool = False) -> Refusal:
    return Refusal(code=code, message=message, retry_at_ms=retry_at_ms, permanent=permanent)


def decided(
    *,
    heads: tuple[JobId, ...] = (),
    workers: tuple[WorkerView, ...] = (),
    busy_workers: int = 0,
    starting: int = 0,
    pools: tuple[PoolView, ...] = (),
) -> list[Decision]:
    """Decide on one model that one job waits for."""
    view = ModelView(
        model_ref="m",
        waiting=max(1, len(heads)),
        heads=heads,
        workers=workers,
        busy_workers=busy_workers,
        starting=starting,
        pools=pools,
    )
    return decide(Snapshot(now_ms=NOW_MS, models=(view,)))


def test_rule_1_a_ready_worker_with_a_free_slot_gets_the_job() -> None:
    found = decided(heads=jobs("j"), workers=(worker("w"),), busy_workers=1, starting=1, pools=(pool("p"),))

    assert found == [Dispatch(JobId("j"), "w")]


def test_rule_1_the_least_loaded_worker_comes_first() -> None:
    half, third, quarter = worker("a", leases=1), worker("b", free=2, leases=1), worker("c", free=3, leases=1)

    found = decided(heads=jobs("j"), workers=(half, third, quarter))

    assert found == [Dispatch(JobId("j"), "c")]


def test_rule_1_of_equally_loaded_workers_the_one_with_most_free_memory_comes_first() -> None:
    found = decided(heads=jobs("j"), workers=(worker("a", memory=1), worker("b", memory=2), worker("c", memory=1)))

    assert found == [Dispatch(JobId("j"), "b")]


def test_rule_1_of_equal_workers_the_first_by_name_comes_first() -> None:
    found = decided(heads=jobs("j"), workers=(worker("b"), worker("a")))

    assert found == [Dispatch(JobId("j"), "a")]


def test_rule_1_each_job_counts_for_where_the_next_one_goes() -> None:
    found = decided(heads=jobs("1", "2", "3", "4"), workers=(worker("a", free=3), worker("b", free=3)))

    assert [decision.worker_id for decision in found if isinstance(decision, Dispatch)] == ["a", "b", "a", "b"]


def test_rule_1_jobs_are_spread_in_order_until_the_slots_are_full() -> None:
    found = decided(heads=jobs("1", "2", "3", "4", "5"), workers=(worker("a", free=2), worker("b", free=1, leases=1)))

    assert found == [Dispatch(JobId("1"), "a"), Dispatch(JobId("2"), "a"), Dispatch(JobId("3"), "b")]


@pytest.mark.parametrize(
    ("busy_workers", "starting", "wait"),
    [
        (1, 0, Wait("m", "slot", "every slot of the workers that have the model is busy")),
        (1, 1, Wait("m", "slot", "every slot of the workers that have the model is busy")),
        (0, 1, Wait("m", "loading", "a worker is loading the model")),
    ],
)
def test_rule_2_a_worker_that_has_the_model_is_waited_for(busy_workers: int, starting: int, wait: Wait) -> None:
    assert decided(busy_workers=busy_workers, starting=starting, pools=(pool("p"),)) == [wait]


def test_rule_3_without_a_pool_the_job_waits_for_one() -> None:
    assert decided() == [Wait("m", "pool", "no pool is online; start one with: llorch serve pool")]


def test_rule_4_the_pool_that_has_the_file_is_asked_before_one_with_more_memory() -> None:
    found = decided(pools=(pool("a", memory=9 * GIB), pool("b", has_file=True)))

    assert found == [StartWorker("b", "m")]


def test_rule_4_then_the_pool_with_most_free_memory_then_the_first_by_name() -> None:
    most = decided(pools=(pool("a"), pool("b", memory=2 * GIB)))
    level = decided(pools=(pool("b"), pool("a")))

    assert (most, level) == ([StartWorker("b", "m")], [StartWorker("a", "m")])


@pytest.mark.parametrize(
    ("refusal", "asked"),
    [
        (no("INSUFFICIENT_MEMORY", retry_at_ms=NOW_MS), "a"),
        (no("INSUFFICIENT_MEMORY", retry_at_ms=NOW_MS + 1), "b"),
        (no("MODEL_NOT_FOUND", retry_at_ms=NOW_MS, permanent=True), "b"),
    ],
)
def test_rule_4_a_pool_that_has_refused_is_asked_again_only_when_its_time_has_come(
    refusal: Refusal, asked: str
) -> None:
    found = decided(pools=(pool("a", has_file=True, refusal=refusal), pool("b")))

    assert found == [StartWorker(asked, "m")]


def test_rule_5_when_every_pool_has_refused_for_good_the_most_telling_refusal_ends_the_jobs() -> None:
    absent = no("MODEL_NOT_FOUND", "a: no such file", permanent=True)
    broken = no("MODEL_INVALID", "b: truncated", permanent=True)

    found = decided(pools=(pool("a", refusal=absent), pool("b", refusal=broken)))

    assert found == [Reject("m", "MODEL_INVALID", "b: truncated")]


def test_rule_6_while_one_pool_may_be_asked_later_the_jobs_wait() -> None:
    absent = no("MODEL_NOT_FOUND", "a: no such file", permanent=True)
    later = no("INSUFFICIENT_MEMORY", "b: needs 9 GiB", retry_at_ms=NOW_MS + 1)

    found = decided(pools=(pool("a", refusal=absent), pool("b", refusal=later)))

    assert found == [Wait("m", "backoff", "b: needs 9 GiB")]


def test_models_are_decided_on_in_the_order_of_the_snapshot() -> None:
    views = tuple(ModelView(model_ref=name, waiting=1) for name in ("z", "a", "m"))

    found = decide(Snapshot(now_ms=NOW_MS, models=views))

    assert [decision.model_ref for decision in found if isinstance(decision, Wait)] == ["z", "a", "m"]


def test_nothing_that_waits_is_nothing_to_do() -> None:
    assert decide(Snapshot(now_ms=NOW_MS)) == []


refusals = st.builds(
    Refusal,
    code=st.sampled_from(["MODEL_NOT_FOUND", "INSUFFICIENT_MEMORY"]),
    message=st.sampled_from(["x", "y"]),
    retry_at_ms=st.integers(NOW_MS - 1, NOW_MS + 1),
    permanent=st.booleans(),
)
small = st.integers(0, 3)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Draw a snapshot as the dispatcher makes them: heads only where slots are free, ids never twice."""
    views = []
    for m in range(draw(small)):
        workers = tuple(
            WorkerView(
                worker_id=f"w{m}.{n}",
                pool_id="p",
                free_slots=draw(st.integers(1, 4)),
                leases=draw(small),
                memory_free_bytes=draw(small),
            )
            for n in range(draw(small))
        )
        slots = sum(view.free_slots for view in workers)
        heads = jobs(*(f"j{m}.{n}" for n in range(draw(st.integers(1, slots + 2)) if slots else 0)))
        pools = tuple(
            pool(f"p{n}", has_file=draw(st.booleans()), memory=draw(small), refusal=draw(st.none() | refusals))
            for n in range(draw(small))
        )
        views.append(
            ModelView(
                model_ref=f"m{m}",
                waiting=len(heads) or 1,
                heads=heads,
                workers=workers,
                busy_workers=draw(small),
                starting=draw(small),
                pools=pools,
            )
        )
    return Snapshot(now_ms=NOW_MS, models=tuple(views))


def model_of(decision: Decision) -> str:
    """Return the model that a decision is about; in these snapshots a job's name begins with its model's number."""
    if isinstance(decision, Dispatch):
        return "m" + decision.job_id.removeprefix("j").partition(".")[0]
    return decision.model_ref


@given(snapshots())
def test_the_same_snapshot_gives_the_same_decisions(snapshot: Snapshot) -> None:
    assert decide(snapshot) == decide(snapshot)


@given(snapshots(), st.randoms(use_true_random=False))
def test_the_order_in_which_workers_and_pools_are_listed_does_not_matter(snapshot: Snapshot, random: Random) -> None:
    shuffled = [
        ModelView(
            model_ref=view.model_ref,
            waiting=view.waiting,
            heads=view.heads,
            workers=tuple(random.sample(view.workers, len(view.workers))),
            busy_workers=view.busy_workers,
            starting=view.starting,
            pools=tuple(random.sample(view.pools, len(view.pools))),
        )
        for view in snapshot.models
    ]

    found = decide(Snapshot(now_ms=NOW_MS, models=tuple(shuffled)))

    chosen = [decision for decision in found if not isinstance(decision, Wait)]
    assert chosen == [decision for decision in decide(snapshot) if not isinstance(decision, Wait)]


@settings(max_examples=150)
@given(snapshots())
def test_no_worker_gets_more_jobs_than_it_has_free_slots_and_no_job_two_workers(snapshot: Snapshot) -> None:
    given_out = [decision for decision in decide(snapshot) if isinstance(decision, Dispatch)]

    free = {view.worker_id: view.free_slots for model in snapshot.models for view in model.workers}
    assert all(count <= free[worker_id] for worker_id, count in Counter(d.worker_id for d in given_out).items())
    assert all(count == 1 for count in Counter(d.job_id for d in given_out).values())
    assert all(model_of(d) == "m" + d.worker_id.removeprefix("w").partition(".")[0] for d in given_out)


@given(snapshots())
def test_as_many_jobs_are_given_out_as_there_are_free_slots_and_the_first_ones(snapshot: Snapshot) -> None:
    given_out = [decision.job_id for decision in decide(snapshot) if isinstance(decision, Dispatch)]

    slots = {model.model_ref: sum(view.free_slots for view in model.workers) for model in snapshot.models}
    assert given_out == [job for model in snapshot.models for job in model.heads[: slots[model.model_ref]]]


@given(snapshots())
def test_something_is_decided_for_every_model_that_jobs_wait_for(snapshot: Snapshot) -> None:
    decided_on = {model_of(decision) for decision in decide(snapshot)}

    assert decided_on == {model.model_ref for model in snapshot.models}


@given(snapshots())
def test_a_pool_is_asked_for_a_model_at_most_once_and_only_when_it_may_be(snapshot: Snapshot) -> None:
    askable = {
        (view.pool_id, model.model_ref)
        for model in snapshot.models
        for view in model.pools
        if view.refusal is None or (not view.refusal.permanent and view.refusal.retry_at_ms <= NOW_MS)
    }

    asked = [(d.pool_id, d.model_ref) for d in decide(snapshot) if isinstance(d, StartWorker)]

    assert set(asked) <= askable
    assert len({model_ref for _, model_ref in asked}) == len(asked)
