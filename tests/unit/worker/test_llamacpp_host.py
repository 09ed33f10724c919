"""Which devices count as a backend's."""

from __future__ import annotations

import pytest

from roles.worker.backend.llamacpp_host import _cores, _is_a


@pytest.mark.parametrize(
    ("name", "backend", "is_one"),
    [("CUDA0", "cuda", True), ("CPU", "cuda", False), ("Metal", "metal", True), ("MTL0", "metal", True)],
)
def test_a_device_belongs_to_the_backend_that_it_is_named_after(name: str, backend: str, is_one: bool) -> None:
    assert _is_a({"name": name}, backend) == is_one


def test_there_is_at_least_one_core() -> None:
    assert _cores() >= 1
