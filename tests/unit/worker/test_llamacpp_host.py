"""Which devices count as a backend's."""

from __future__ import annotations

from pathlib import Path

import pytest

from roles.worker.backend.llamacpp_host import _is_a, _threads


@pytest.mark.parametrize(
    ("name", "backend", "is_one"),
    [("CUDA0", "cuda", True), ("CPU", "cuda", False), ("Metal", "metal", True), ("MTL0", "metal", True)],
)
def test_a_device_belongs_to_the_backend_that_it_is_named_after(name: str, backend: str, is_one: bool) -> None:
    assert _is_a({"name": name}, backend) == is_one


def test_a_small_model_gets_one_thread(tmp_path: Path) -> None:
    small = tmp_path / "small.gguf"
    small.write_bytes(bytes(1000))

    assert _threads(str(small)) == 1
