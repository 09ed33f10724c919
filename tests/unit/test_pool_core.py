"""Where a pool is, and what its workers hold of its devices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llorch import config
from llorch.wire.pools import Device
from roles.pool.core import Addresses, allocated, find_addresses
from tests.unit.test_pool_worker_lifecycle_records import READY, STARTING


@pytest.mark.parametrize(
    ("host", "bound", "advertise", "addresses"),
    [
        ("127.0.0.1", "http://127.0.0.1:9", "", ("http://127.0.0.1:9", "http://127.0.0.1:9", "127.0.0.1")),
        ("localhost", "http://localhost:9", "", ("http://localhost:9", "http://127.0.0.1:9", "127.0.0.1")),
        ("0.0.0.0", "http://127.0.0.1:9", "http://h:1", ("http://h:1", "http://127.0.0.1:9", "0.0.0.0")),
        ("10.0.0.5", "http://10.0.0.5:9", "", ("http://10.0.0.5:9", "http://10.0.0.5:9", "10.0.0.5")),
        ("::", "http://127.0.0.1:9", "http://h:1/", ("http://h:1", "http://[::1]:9", "::")),
        ("fd00::5", "http://[fd00::5]:9", "", ("http://[fd00::5]:9", "http://[fd00::5]:9", "fd00::5")),
    ],
)
def test_workers_can_be_reached_where_the_pool_can_and_call_back_from_inside(
    host: str, bound: str, advertise: str, addresses: tuple[str, str, str]
) -> None:
    settings = config.load(env={}, overrides={"pool": {"host": host, "advertise": advertise}})

    assert find_addresses(settings, bound) == Addresses(*addresses)


def test_a_device_tells_what_living_workers_hold_of_it() -> None:
    cpu = Device(
        id="cpu",
        uuid="u",
        name="n",
        backend="cpu",
        memory_total_bytes=9000,
        memory_used_bytes=0,
        memory_free_bytes=9000,
    )

    [seen] = allocated([cpu], [STARTING, READY, replace(READY, status="failed")])

    assert seen.memory_allocated_bytes == 1000 + 1200
