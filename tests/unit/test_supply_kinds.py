"""Models whose engine computes on the processor alone, on hosts that have accelerators."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from llorch.wire.pools import Model, WorkerReport
from roles.orchestrator.scheduler.decisions import MakeRoom, Reject, Wait
from roles.orchestrator.scheduler.facts import Facts
from tests.support.supplies import NOW_MS, decided, started, supply
from tests.support.worlds import device, model, report


def old(ref: str = "old", *, gib: float = 1) -> Model:
    """Return a model whose engine computes on the processor alone."""
    return replace(model(ref, gib=gib), backends=["cpu"])


def host(
    *models: Model,
    gpu_gib: float = 8,
    ram_gib: float = 32,
    free_gib: float | None = None,
    workers: Sequence[WorkerReport] = (),
) -> Facts:
    """Return a host with one GPU."""
    devices = [device("gpu", gib=gpu_gib, free_gib=free_gib, backend="cuda"), device("cpu", gib=ram_gib)]
    return Facts(devices=devices, models=models, workers=workers)


def test_it_goes_to_the_processor_and_others_to_the_gpu() -> None:
    known = supply(p=host(old(), replace(model("new"), backends=["cpu", "cuda"]), model("unsaid")))

    places = {ref: started(decided(known, ref)) for ref in ("old", "new", "unsaid")}

    assert places == {"old": [("p", "cpu")], "new": [("p", "gpu")], "unsaid": [("p", "gpu")]}


def test_a_full_gpu_is_nothing_to_it_and_all_to_others() -> None:
    known = supply(p=host(old(), model("new"), free_gib=0))

    assert started(decided(known, "old")) == [("p", "cpu")]
    assert started(decided(known, "new")) == []


def test_only_memory_of_the_processor_is_freed_for_it() -> None:
    workers = [report("on-gpu", "new", device_id="gpu", gib=8), report("on-cpu", "big", device_id="cpu", gib=30)]
    known = supply(p=host(old(gib=4), old("big", gib=30), model("new", gib=8), workers=workers))

    decision, *_ = decided(known, "old")

    assert isinstance(decision, MakeRoom)
    assert (decision.device, decision.worker_ids) == ("cpu", ("on-cpu",))


def test_no_worker_on_the_processor_has_to_end_for_a_model_of_the_gpu() -> None:
    workers = [report("on-cpu", "old", device_id="cpu", gib=30)]
    known = supply(p=host(old(gib=30), model("new", gib=6), free_gib=1, workers=workers))

    assert not [one for one in decided(known, "new") if isinstance(one, MakeRoom)]


def test_it_may_be_larger_than_the_gpu_and_not_larger_than_the_memory_of_the_processor() -> None:
    large, larger = old("large", gib=20), old("larger", gib=20)
    known = supply(p=host(large, gpu_gib=8, ram_gib=32), q=host(larger, gpu_gib=80, ram_gib=16))

    waits = Wait("larger", "memory", "it needs 20.0 GiB and the largest device that is online has 16.0 GiB")

    assert started(decided(known, "large")) == [("p", "cpu")]
    assert decided(known, "larger") == [waits]


def test_what_several_gpus_have_together_is_nothing_to_it() -> None:
    gpus = [device(f"gpu{number}", gib=16, backend="cuda") for number in range(2)]
    known = supply(
        p=Facts(devices=[*gpus, device("cpu", gib=16)], models=[old("larger", gib=20), model("new", gib=20)])
    )

    waits = Wait("larger", "memory", "it needs 20.0 GiB and the largest device that is online has 16.0 GiB")

    assert decided(known, "larger") == [waits]
    assert started(decided(known, "new")) == [("p", "")]


def test_a_host_whose_gpu_it_can_use_goes_before_and_its_own_is_found_among_many() -> None:
    few = supply(p=host(old()), q=host(replace(model("old"), backends=["cpu", "cuda"])))
    many = supply(**{f"p{number:02d}": host(old()) for number in range(12)})

    assert started(decided(few, "old")) == [("q", "gpu")]
    assert started(decided(many, "old")) == [("p00", "cpu")]


def test_a_gpu_that_comes_later_is_not_used_either() -> None:
    known = supply(p=Facts(devices=[device("cpu", gib=32)], models=[old()]))
    known.hear("p", host(old()), now_ms=NOW_MS)

    assert started(decided(known, "old")) == [("p", "cpu")]


def test_what_was_refused_there_closes_the_pool_for_it() -> None:
    known = supply(p=host(old()))
    known.refused("old", ("p", "cpu"), code="MODEL_INVALID", message="it is torn", now_ms=NOW_MS)

    assert decided(known, "old") == [Reject("old", "MODEL_INVALID", "it is torn")]


def test_a_pool_that_is_gone_leaves_nothing_of_what_its_engines_compute_on() -> None:
    known = supply(p=host(old()), q=host(old()))
    known.leave("p", for_good=True, now_ms=NOW_MS)

    assert known.kinds.of("old") == {"q": {"cpu"}}
    assert started(decided(known, "old")) == [("q", "cpu")]


def test_memory_of_a_processor_beside_a_gpu_comes_and_goes_without_a_look_at_all_that_waits() -> None:
    known = supply(p=host(model("m"), free_gib=1))
    told = []
    for free_gib, ram_gib in ((1, 40), (1, 20), (2, 20)):
        known.grown = False
        known.hear("p", host(model("m"), free_gib=free_gib, ram_gib=ram_gib), now_ms=NOW_MS)
        told.append(known.grown)

    assert told == [False, False, True]
