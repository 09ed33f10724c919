"""Where workers of servers' models start: beside full devices, one in a pool, and again when a server is back."""

from __future__ import annotations

from msgspec.structs import replace

from llorch.wire.pools import Model
from roles.orchestrator.scheduler.decisions import MakeRoom, Wait
from roles.orchestrator.scheduler.facts import Facts
from tests.support.supplies import NOW_MS, decided, started, supply
from tests.support.worlds import GIB, demand, device, model, report

REF = "server:gpu/org/M"


def served(*, added_ms: int = 1, device_id: str = "", gib: float = 0) -> Model:
    """Return a server's model as a pool reports it."""
    return replace(model(REF), memory_bytes=round(gib * GIB), device=device_id, added_ms=added_ms)


def test_a_full_host_starts_a_worker_that_takes_no_memory() -> None:
    full = Facts(devices=[device(gib=8, free_gib=0)], models=[served()], workers=[report("w", "m", gib=8)])

    assert started(decided(supply(p=full), REF)) == [("p", "")]


def test_a_pool_gets_one_worker_of_a_servers_model_and_another_pool_the_next() -> None:
    mine = [report("w", REF, gib=0, device_id="")]
    alone = supply(a=Facts(devices=[device()], models=[served()], workers=mine))
    two = supply(
        a=Facts(devices=[device()], models=[served()], workers=mine),
        b=Facts(devices=[device()], models=[served()]),
    )
    for known in (alone, two):
        for job in "1234":
            known.serving.lease("w", job)  # type: ignore[arg-type]

    assert [type(one) for one in decided(alone, REF, waiting=20)] == [Wait]
    assert started(decided(two, REF, waiting=20)) == [("b", "")]


def test_a_command_gets_the_device_that_it_is_configured_for_and_room_is_made_there_alone() -> None:
    devices = [device("x", gib=8), device("y", gib=4)]
    free = supply(p=Facts(devices=devices, models=[served(device_id="y", gib=3)]))
    taken = supply(
        p=Facts(
            devices=[device("x", gib=8, free_gib=0), device("y", gib=4, free_gib=0)],
            models=[served(device_id="y", gib=3)],
            workers=[report("old", "a", gib=8, device_id="x"), report("new", "b", gib=4, device_id="y")],
        )
    )

    [room, *_] = [one for one in decided(taken, REF) if isinstance(one, MakeRoom)]

    assert started(decided(free, REF)) == [("p", "y")]
    assert (room.device, room.worker_ids) == ("y", ("new",))


def test_a_server_that_is_away_is_waited_for_and_asked_at_once_when_it_is_back() -> None:
    known = supply(p=Facts(devices=[device()], models=[served(added_ms=1)]))
    known.refused(REF, ("p", ""), code="UNREACHABLE", message="pool p: it does not answer", now_ms=NOW_MS)

    away = decided(known, REF)
    known.hear("p", Facts(devices=[device()], models=[served(added_ms=1)]), now_ms=NOW_MS)
    still = decided(known, REF)
    known.hear("p", Facts(devices=[device()], models=[served(added_ms=2)]), now_ms=NOW_MS)

    assert away == still == [Wait(REF, "backoff", "pool p: it does not answer; asked again in 2 s")]
    assert started(decided(known, REF)) == [("p", "")]


def test_a_worker_that_did_not_come_up_is_not_started_again_at_once() -> None:
    known = supply(
        p=Facts(
            devices=[device()], models=[served()], workers=[report("w", REF, gib=0, status="starting", device_id="")]
        )
    )
    failed = replace(report("w", REF, gib=0, status="failed", device_id=""), error="the server gpu cannot be reached")
    known.hear("p", Facts(devices=[device()], models=[served()], workers=[failed]), now_ms=NOW_MS)

    assert decided(known, REF) == [
        Wait(REF, "backoff", "a worker of pool p failed to start: the server gpu cannot be reached; asked again in 2 s")
    ]
    assert known.snapshot(REF, demand(), now_ms=NOW_MS + 2_000).places
