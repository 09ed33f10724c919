"""Where a host's pool is asked how it is, and which answers are those of the one that was just started."""

from __future__ import annotations

import pytest

from llorch.cli.hosts_pool_plan import is_new, status_of
from llorch.wire.pools import Disk, PoolStatus


@pytest.mark.parametrize(
    ("configuration", "url"),
    [
        ("[pool]\nport = 9300\n", "http://127.0.0.1:9300"),
        ('[pool]\nhost = "0.0.0.0"\n', "http://127.0.0.1:9200"),
        ('[pool]\nhost = "::"\n', "'http://[::1]:9200'"),
        ('[pool]\nhost = "10.0.0.5"\n', "http://10.0.0.5:9200"),
        ('[pool]\nhost = "$(reboot)"\n', "'http://$(reboot):9200'"),
        ("pool = 1", "http://127.0.0.1:9200"),
        ("[", "http://127.0.0.1:9200"),
    ],
)
def test_the_pool_is_asked_where_its_configuration_puts_it(configuration: str, url: str) -> None:
    assert status_of(configuration).endswith(f" pool status --json --pool-url {url}")


@pytest.mark.parametrize(("uptime_s", "expected"), [(0.0, True), (4.9, True), (6.4, False), (86_400.0, False)])
def test_a_pool_that_is_up_for_longer_than_the_start_is_ago_is_another_one(uptime_s: float, *, expected: bool) -> None:
    status = PoolStatus(
        pool_id="far",
        version="1",
        uptime_s=uptime_s,
        draining=False,
        devices=[],
        workers=[],
        models=[],
        disk=Disk(1, 1),
        registered=True,
    )

    assert is_new(status, since_s=4.0) is expected
