"""What the Tab key offers for which parameter of which command."""

from __future__ import annotations

import pytest

from llorch.cli import completion as offers
from llorch.cli.completion import offer_for


@pytest.mark.parametrize(
    ("path", "parameter", "remote", "expected"),
    [
        ("jobs show", "job_id", False, offers.jobs),
        ("jobs cancel", "job_id", False, offers.live_jobs),
        ("jobs submit", "model", False, offers.models),
        ("pool models download", "model", True, offers.models),
        ("pool worker stop", "worker_id", True, offers.workers),
        ("pool drain", "pool_id", False, offers.pools),
        ("pool status", "host", True, offers.hosts),
        ("pool status", "via", True, offers.ways),
        ("hosts remove", "name", False, offers.hosts),
        ("hosts exec", "name", False, offers.hosts),
        ("hosts add", "name", False, None),
        ("serve pool", "host", False, None),
        ("serve worker", "model", False, None),
        ("jobs submit", "prompt", False, None),
    ],
)
def test_names_are_offered_where_names_are_wanted(
    path: str, parameter: str, remote: bool, expected: offers.Offer | None
) -> None:
    assert offer_for(tuple(path.split()), parameter, remote=remote) is expected
