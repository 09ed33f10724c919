"""What doctor makes of an orchestrator's answers."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llorch import __version__
from llorch.cli.doctor import orchestrator
from llorch.errors import RemoteError, Unreachable
from llorch.wire.meta import Version
from llorch.wire.pools import Pool

URL = "http://127.0.0.1:8080"


def pool(status: str) -> Pool:
    return Pool(
        pool_id="attic",
        endpoint="http://attic:9200",
        version="1",
        status=status,  # type: ignore[arg-type]  # one of two literals
        last_seen_ms=1_000,
        devices=[],
        models=[],
        workers=[],
    )


@pytest.mark.parametrize(("ahead_ms", "state"), [(0, "ok"), (4_900, "ok"), (5_200, "failed"), (-60_000, "failed")])
def test_clocks_may_differ_by_seconds_and_by_what_asking_takes(ahead_ms: float, state: str) -> None:
    assert orchestrator._clock(ahead_ms, uncertain_ms=100).state == state


def test_a_clock_that_differs_is_told_with_its_direction() -> None:
    result = orchestrator._clock(-60_000, uncertain_ms=0)

    assert result.found == "the orchestrator's is 1 min 00 s behind this machine's"
    assert result.fix


@pytest.mark.parametrize(
    ("told", "state", "said"),
    [
        (Version(__version__, "orchestrator"), "ok", "answers"),
        (Version("9.9.9", "orchestrator"), "failed", "9.9.9"),
        (Version(__version__, "pool"), "failed", "not an orchestrator"),
    ],
)
def test_another_version_or_another_role_is_told(told: Version, state: str, said: str) -> None:
    result = orchestrator._version(URL, told)

    assert result.state == state
    assert said in result.found
    assert bool(result.fix) == (state == "failed")


def test_a_pool_that_speaks_another_version_is_a_failure_with_what_to_do() -> None:
    told = replace(pool("draining"), trouble="it speaks version 1", remedy="llorch hosts upgrade attic")

    result = orchestrator._pool(told, now_ms=61_000)

    assert (result.state, result.found, result.fix) == (
        "failed",
        "gets no work: it speaks version 1",
        "llorch hosts upgrade attic",
    )


@pytest.mark.parametrize(("status", "state"), [("online", "ok"), ("draining", "ok"), ("offline", "failed")])
def test_a_pool_that_is_offline_is_a_failure(status: str, state: str) -> None:
    result = orchestrator._pool(pool(status), now_ms=61_000)

    assert (result.check, result.state) == ("pool attic", state)
    assert "1 min 00 s ago" in result.found


@pytest.mark.parametrize(
    ("url", "error", "fix"),
    [
        (URL, Unreachable("it cannot be reached"), "llorch serve orchestrator"),
        ("http://far:8080", Unreachable("it cannot be reached"), "ssh far llorch dev doctor"),
        (URL, RemoteError("no", code="MISSING_TOKEN", status=401), "export LLORCH_API_TOKEN=$(cat TOKEN_FILE)"),
        (URL, RemoteError("no", code="HTTP_404", status=404), "llorch --version"),
    ],
)
def test_each_refusal_has_its_own_remedy(url: str, error: Unreachable, fix: str) -> None:
    assert orchestrator._refused(url, error).fix == fix
