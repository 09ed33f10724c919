"""What engine processes see of GPUs, as recorded drivers tell of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from roles.worker.backend.gpus import NO_GPU, Sight, sight
from tests.support.nvml_session import Player


def uuid(index: int) -> str:
    """Return the UUID of one of eight GPUs in the recording."""
    return f"GPU-{index:08d}-0000-4000-8000-{index:012d}"


def test_a_worker_of_the_processor_sees_no_gpu() -> None:
    assert sight("cpu", [], Player("h200x8")) == Sight(NO_GPU)


def test_one_gpu_is_the_only_one_that_is_seen_and_so_the_first() -> None:
    seen = sight("cuda", [3], Player("h200x8"))

    assert seen.environment == {"CUDA_VISIBLE_DEVICES": uuid(3)}
    assert seen.number(3) == 0


def test_several_are_seen_in_their_order() -> None:
    seen = sight("cuda", [2, 5], Player("h200x8"))

    assert seen.environment == {"CUDA_VISIBLE_DEVICES": f"{uuid(2)},{uuid(5)}"}
    assert [seen.number(index) for index in (2, 5)] == [0, 1]


@pytest.mark.parametrize(
    ("backend", "indexes", "session"), [("cuda", [], "h200x8"), ("cuda", [0], "no_driver"), ("metal", [0], "no_driver")]
)
def test_what_nobody_tells_of_is_left_as_it_is(backend: str, indexes: list[int], session: str) -> None:
    seen = sight(backend, indexes, Player(session))  # type: ignore[arg-type]

    assert seen == Sight()
    assert seen.number(4) == 4


def test_gpus_that_are_divided_or_lost_are_left_as_they_are() -> None:
    divided, lost = Player("h200x8"), Player("h200x8")
    divided.session["samples"][0]["nvmlDeviceGetMigMode"] = {"returns": [1, 1]}
    lost.session["samples"][0]["nvmlDeviceGetUUID"]["1"] = {"error": "NVML_ERROR_GPU_IS_LOST"}

    assert sight("cuda", [1], divided) == sight("cuda", [1], lost) == Sight()
    assert sight("cuda", [2], lost).environment == {"CUDA_VISIBLE_DEVICES": uuid(2)}


def test_a_driver_that_cannot_be_let_go_of_has_told_all_the_same() -> None:
    failing = Player("h200x8")
    failing.session["samples"][0]["nvmlShutdown"] = {"error": "NVML_ERROR_UNKNOWN"}

    assert sight("cuda", [2], failing).environment == {"CUDA_VISIBLE_DEVICES": uuid(2)}


def test_a_worker_of_the_processor_does_without_the_library_for_gpus() -> None:
    code = "import sys, roles.worker.app as app; from roles.worker.backend import gpus; gpus.sight('cpu', [0]); "
    code += "sys.exit('pynvml' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
