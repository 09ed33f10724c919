"""Which devices count as a backend's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import xllamacpp

from roles.worker.llamacpp_host import _is_a, _parameters, _threads


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


def test_one_gpu_gets_all_of_a_model_and_several_get_their_parts() -> None:
    told = {"model_path": __file__, "socket": "s", "key": "k", "slots": 2, "ctx": 64, "batch": 32, "threads": 1}
    told |= {"backend": "cuda", "device_index": 1}
    laid: list[Any] = [_parameters(xllamacpp, {**told, "split": split}) for split in ({}, {"0": 17, "2": 16})]
    alone, together = laid

    assert (alone.split_mode, alone.main_gpu, any(alone.tensor_split)) == (0, 1, False)
    assert (together.split_mode, list(together.tensor_split[:4])) == (1, [17, 0, 16, 0])
