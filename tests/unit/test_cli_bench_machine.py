"""Whether load and system share a machine, and what that machine is called."""

from __future__ import annotations

import pytest

from llorch.cli.bench_machine import described, is_here, this_machine

OWN = {"10.0.0.7", "fe80::1%eth0", "2001:db8::7"}


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://localhost:8080", True),
        ("http://[::1]:8080", True),
        ("http://10.0.0.7:8080", True),
        ("http://[2001:db8::7]:8080", True),
        ("http://10.0.0.8:8080", False),
        ("https://[2001:db8::8]", False),
    ],
)
def test_this_machine_is_known_by_its_addresses(url: str, here: bool) -> None:
    assert is_here(url, OWN) is here


def test_the_machine_is_told_in_one_line() -> None:
    machine = this_machine()

    line = described(machine)

    assert machine.cores >= 1
    assert machine.memory_bytes > 2**20
    assert f"Python {machine.python}" in line
    assert f"llorch {machine.llorch}" in line
    assert "\n" not in line
