"""Which GPUs an engine's process sees: those that its worker is for, and no others.

A process that sees more makes itself at home on all of them: memory that nobody has counted, a projector or a draft
model on the first one. And the driver and CUDA do not number alike once a GPU is lost, or hidden from one of them; a
UUID is the same for both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from llorch.wire.pools import Backend

NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1", "GGML_METAL_DEVICES": "0"}
"""Hides all: llama.cpp reads prompts with what it finds, though no layer of the model is there."""


class Library(Protocol):
    """The calls of `pynvml` that are made; each may raise `pynvml.NVMLError`. A handle is the library's own."""

    def nvmlInit(self) -> None: ...  # noqa: N802, D102 - as NVML calls it
    def nvmlShutdown(self) -> None: ...  # noqa: N802, D102
    def nvmlDeviceGetHandleByIndex(self, index: int) -> object: ...  # noqa: N802, D102
    def nvmlDeviceGetUUID(self, handle: object) -> str | bytes: ...  # noqa: N802, D102
    def nvmlDeviceGetMigMode(self, handle: object) -> Sequence[int] | None: ...  # noqa: N802, D102


@dataclass(frozen=True, slots=True)
class Sight:
    """What an engine's process is to have in its environment, and which number it then sees each GPU under."""

    environment: dict[str, str] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)

    def number(self, index: int) -> int:
        """Return under which number the process sees the GPU that the driver calls *index*."""
        return self.numbers.get(index, index)


def sight(backend: Backend, indexes: Sequence[int], library: Library | None = None) -> Sight:
    """Decide what an engine's process sees. Blocks: the driver is asked.

    Args:
        backend: What the worker computes on.
        indexes: The GPUs that it is for, as the driver numbers them; none where nobody has said, then it sees all.
        library: What is asked for NVIDIA GPUs, instead of `pynvml`. Where it does not tell, they are left as they are.
    """
    if backend == "cpu":
        return Sight(NO_GPU)
    found = _uuids(indexes, library) if backend == "cuda" else []
    if not found:
        return Sight()
    return Sight({"CUDA_VISIBLE_DEVICES": ",".join(found)}, {index: number for number, index in enumerate(indexes)})


def _uuids(indexes: Sequence[int], library: Library | None) -> list[str]:
    import pynvml  # large: a worker without such a GPU starts without it

    library = library or pynvml
    try:
        library.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [library.nvmlDeviceGetHandleByIndex(index) for index in indexes]
        if any(_in_parts(library, handle, failure=pynvml.NVMLError) for handle in handles):
            return []  # the parts have UUIDs of their own
        told = [library.nvmlDeviceGetUUID(handle) for handle in handles]
        return [uuid.decode() if isinstance(uuid, bytes) else uuid for uuid in told]
    except pynvml.NVMLError:
        return []
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            library.nvmlShutdown()


def _in_parts(library: Library, handle: object, *, failure: type[Exception]) -> bool:
    """Tell whether a GPU is divided into instances (MIG), as few can be."""
    try:
        mode = library.nvmlDeviceGetMigMode(handle)
    except failure:
        return False
    return bool(mode and mode[0])
