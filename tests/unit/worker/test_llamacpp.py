"""Which device a name means."""

from __future__ import annotations

import pytest

from roles.worker.backend.llamacpp_options import device_index


@pytest.mark.parametrize(("device", "index"), [("", 0), ("cpu", 0), ("cuda:2", 2), ("3", 3), ("GPU-1f0a-77", 0)])
def test_the_number_at_the_end_of_a_device_is_its_index(device: str, index: int) -> None:
    assert device_index(device) == index
