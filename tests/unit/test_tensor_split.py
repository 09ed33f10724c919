"""Models that no device is large enough for: placed over several of one pool, and cleared for, only then."""

from __future__ import annotations

import msgspec

from llorch.wire.pools import Device, WorkerReport
from roles.orchestrator.scheduler.decisions import MakeRoom, StartWorker, StopWorker, Wait
from roles.orchestrator.scheduler.facts import Facts
from roles.orchestrator.scheduler.progress import Loading
from tests.support.supplies import NOW_MS, decided, started, supply
from tests.support.worlds import GIB, device, model, report


def gpus(*sizes_gib: float) -> list[Device]:
    """Return GPUs of some sizes."""
    return [device(f"cuda:{n}", gib=gib, backend="cuda") for n, gib in enumerate(sizes_gib)]


def laid(worker_id: str, ref: str, *, status: str = "ready", **shares_gib: float) -> WorkerReport:
    """Return a worker whose model is laid over several GPUs."""
    shares = {f"cuda:{name[1:]}": round(gib * GIB) for name, gib in shares_gib.items()}
    worker = report(worker_id, ref, gib=sum(shares_gib.values()), status=status, device_id=next(iter(shares)))
    return msgspec.structs.replace(worker, shares=shares)


def test_a_model_too_large_for_any_device_is_laid_over_as_few_as_it_takes_and_all_of_it_is_promised() -> None:
    known = supply(p=Facts(devices=gpus(8, 20, 16), models=[model("m", gib=30)]))

    (start,) = decided(known)
    assert isinstance(start, StartWorker)
    known.asked("w", Loading("w", "p", "m"), need_bytes=start.need_bytes, now_ms=NOW_MS, parts=start.parts)
    left = [known.capacity.available(("p", f"cuda:{n}")) for n in range(3)]
    known.answered("w")

    assert (start.pool_id, start.device) == ("p", "")
    assert [part.device for part in start.parts] == ["cuda:1", "cuda:2"]
    assert "is started on cuda:1, cuda:2 of pool p" in start.text
    assert left[0] == 8 * GIB
    assert 0 <= left[1] + left[2] <= 6 * GIB
    assert [known.capacity.available(("p", f"cuda:{n}")) for n in range(3)] == [8 * GIB, 20 * GIB, 16 * GIB]


def test_a_model_that_one_device_could_hold_waits_for_it_and_is_not_laid_over_several() -> None:
    busy = [report("w", "o", gib=12, device_id="cuda:0"), report("v", "o", gib=12, device_id="cuda:1")]
    known = supply(p=Facts(devices=gpus(16, 16, 16), models=[model("m", gib=16)], workers=busy))
    full = supply(p=Facts(devices=gpus(16, 16), models=[model("m", gib=14)], workers=busy))

    made, *_ = decided(full)

    assert started(decided(known)) == [("p", "cuda:2")]
    assert isinstance(made, MakeRoom)
    assert (made.worker_ids, made.device, made.parts) == (("v",), "cuda:1", ())


def test_idle_workers_of_all_its_devices_make_room_for_it_and_none_that_is_not_needed() -> None:
    busy = [report(f"w{n}", f"o{n}", gib=10, device_id=f"cuda:{n}") for n in range(3)]
    known = supply(p=Facts(devices=gpus(16, 16, 16), models=[model("m", gib=24)], workers=busy))

    made, *stops, wait = decided(known)
    assert isinstance(made, MakeRoom)
    known.rooms.make(made)
    gone = Facts(devices=gpus(16, 16, 16), models=[model("m", gib=24)], workers=busy[len(made.worker_ids) :])
    for worker_id in made.worker_ids:
        known.rooms.stopping(worker_id, now_ms=NOW_MS)
    known.hear("p", gone, now_ms=NOW_MS)
    (start,) = decided(known)

    assert made.worker_ids == ("w0",)
    assert [stop.worker_id for stop in stops if isinstance(stop, StopWorker)] == ["w0"]
    assert isinstance(wait, Wait)
    assert "of pool p is being freed by o0" in wait.text
    assert isinstance(start, StartWorker)
    assert len(start.parts) == 3


def test_a_worker_over_several_devices_holds_memory_of_each_and_makes_room_on_each() -> None:
    wide = laid("wide", "o", d0=10, d1=6)
    known = supply(p=Facts(devices=gpus(16, 16), models=[model("m", gib=12)], workers=[wide]))
    left = [known.capacity.available(("p", f"cuda:{n}")) for n in range(2)]

    made, *_ = decided(known)

    assert left == [6 * GIB, 10 * GIB]
    assert isinstance(made, MakeRoom)
    assert made.worker_ids == ("wide",)


def test_a_model_that_no_pool_could_ever_hold_waits_and_says_so() -> None:
    known = supply(p=Facts(devices=gpus(16, 16), models=[model("m", gib=40)]))

    assert decided(known) == [
        Wait(
            "m",
            "memory",
            "it needs 40.0 GiB and the largest device that is online has 16.0 GiB, those of one pool together 32.0 GiB",
        )
    ]


def test_a_suspect_device_is_in_no_split() -> None:
    doubted = msgspec.structs.replace(device("cuda:1", gib=16, backend="cuda"), suspect="1 GiB has not come back")
    known = supply(p=Facts(devices=[*gpus(16), doubted], models=[model("m", gib=24)]))

    (wait,) = decided(known)

    assert isinstance(wait, Wait)
    assert "cuda:1 of pool p is suspect: 1 GiB has not come back" in wait.text
