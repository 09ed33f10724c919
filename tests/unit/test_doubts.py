"""Memory that is there and cannot be used: other programs hold it, or it has not come back from a worker that ended."""

from __future__ import annotations

import msgspec

from llorch.wire.pools import Device
from roles.orchestrator.scheduler.decide import decide
from roles.orchestrator.scheduler.decisions import MakeRoom, StartWorker, Wait
from roles.orchestrator.scheduler.facts import Facts
from roles.orchestrator.scheduler.progress import Loading
from tests.support.supplies import NOW_MS, decided, started, supply
from tests.support.worlds import GIB, demand, device, model, report


def test_a_suspect_device_gets_a_worker_only_where_no_other_has_room_and_says_so() -> None:
    trusted, doubted = device("x", gib=8), suspect("y", gib=3)
    known = supply(
        a=Facts(devices=[doubted], models=[model("m", gib=2), model("n", gib=9)]),
        b=Facts(devices=[trusted], models=[model("m", gib=2), model("n", gib=9)]),
    )

    first = decided(known)
    known.asked("w", Loading("w", "b", "m", "x"), need_bytes=7 * GIB, now_ms=NOW_MS)
    known.answered("nobody")
    (second,) = decide(known.snapshot("m", demand(oldest_ms=NOW_MS), now_ms=NOW_MS))
    known.asked("v", Loading("v", "b", "o", "x"), need_bytes=7 * GIB, now_ms=NOW_MS)
    known.progress.answered("w")
    (last,) = decided(known)

    assert started(first) == [("b", "x")]
    assert isinstance(second, Wait)
    assert isinstance(last, StartWorker)
    assert (last.pool_id, last.device) == ("a", "y")
    assert last.text.endswith("the device is suspect (1 GiB has not come back), and it fits no other")


def suspect(name: str, *, gib: float) -> Device:
    """Return a device whose memory has not come back."""
    return msgspec.structs.replace(device(name, gib=gib), suspect="1 GiB has not come back")


def test_a_busy_suspect_device_is_cleared_only_where_no_other_can_be() -> None:
    known = supply(
        a=Facts(devices=[suspect("y", gib=4)], models=[model("m", gib=4)], workers=[report("old", "o", device_id="y")]),
        b=Facts(devices=[device("x", gib=4)], models=[model("m", gib=4)], workers=[report("new", "p", device_id="x")]),
    )

    made, *_ = decided(known)
    known.leave("b", for_good=False, now_ms=NOW_MS)
    other, *_ = decided(known)

    assert isinstance(made, MakeRoom)
    assert made.worker_ids == ("new",)
    assert isinstance(other, MakeRoom)
    assert other.worker_ids == ("old",)


def test_what_other_programs_hold_is_not_placed_on_and_a_waiting_job_is_told_of_it() -> None:
    shared = msgspec.structs.replace(device("x", gib=8), others_bytes=5 * GIB)  # they hold it, and free has yet to show
    models = [model("m", gib=4), model("small", gib=3)]
    known = supply(p=Facts(devices=[shared, suspect("y", gib=1)], models=models))

    (wait,) = decided(known)

    assert started(decided(known, "small")) == [("p", "x")]
    assert wait == Wait(
        "m",
        "memory",
        "it needs 4.0 GiB and the largest device that is online has 3.0 GiB; other programs hold 5.0 GiB of x of pool "
        "p; y of pool p is suspect: 1 GiB has not come back",
    )
