"""The GPU of a Mac, told by the system's own tools: it shares the RAM with the CPU. Starts short-lived programs.

What a program may take of it is a part of the RAM: `iogpu.wired_limit_mb` where somebody has set it; else, as Metal's
`recommendedMaxWorkingSize` shows, two thirds of up to 32 GiB and three quarters of more.
"""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llorch import log
from llorch.wire.pools import Device
from roles.pool import mac

TOOL_TIMEOUT_S = 10.0
GPU = ("system_profiler", "SPDisplaysDataType", "-json")
LIMITS = ("sysctl", "-n", "hw.memsize", "iogpu.wired_limit_mb")
PAGES = ("vm_stat",)
SMALL_BYTES = 32 * 2**30
_NAMESPACE = uuid.UUID("5b2f8d0e-6c1c-4a0e-9d2b-0f6c6c6f7268")
_PAGE_SIZE = re.compile(r"page size of (\d+) bytes")
_PAGE_LINE = re.compile(r"^(?:Pages )?([^:\n]+):\s+(\d+)\.$", re.MULTILINE)
_AVAILABLE = ("free", "inactive", "speculative", "purgeable")
_METAL_KEYS = ("spdisplays_mtlgpufamilysupport", "spdisplays_metalfamily", "spdisplays_metal")
Run = Callable[[Sequence[str]], str]
_log = log.get("pool.metal")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that Metal can use, and its number of cores; 0 when it is not told."""

    name: str
    cores: int


class Metal:
    """Reads the GPU; asks once for what does not change. Used by one thread.

    Args:
        run: Runs a program and returns what it printed; raises `OSError` or `subprocess.SubprocessError`.
    """

    def __init__(self, run: Run | None = None) -> None:
        self._run = run or _output
        self._gpus: list[Gpu] | None = None
        self._failed = False

    def read(self) -> list[Device]:
        """Measure now; there is no such device where the tools do not answer."""
        try:
            if self._gpus is None:
                self._gpus = gpus(self._run(GPU))
            if not self._gpus:
                return []
            total = limit_bytes(self._run(LIMITS))
            free = min(available_bytes(self._run(PAGES)), total)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            if not self._failed:
                self._failed = True
                _log.warning("metal_failed", error=str(error)[:200])
            return []
        self._failed = False
        gpu, machine = self._gpus[0], mac.machine_id() or uuid.getnode()
        return [
            Device(
                id="metal:0",
                uuid=f"METAL-{uuid.uuid5(_NAMESPACE, f'{gpu.name}-{machine}')}",
                name=gpu.name,
                backend="metal",
                memory_total_bytes=total,
                memory_used_bytes=total - free,
                memory_free_bytes=free,
                cores=gpu.cores,
            )
        ]


def gpus(text: str) -> list[Gpu]:
    """Read what `system_profiler SPDisplaysDataType -json` prints.

    Raises:
        ValueError: It is something else.
    """
    found = json.loads(text)
    entries = found.get("SPDisplaysDataType") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError("system_profiler did not tell of displays")
    return [
        Gpu(str(entry.get("sppci_model") or entry.get("_name") or "GPU"), _count(entry.get("sppci_cores")))
        for entry in entries
        if isinstance(entry, dict) and _has_metal(entry)
    ]


def limit_bytes(text: str) -> int:
    """Return what a program may take, from `sysctl -n hw.memsize iogpu.wired_limit_mb`; the second may be missing.

    Raises:
        ValueError: There is no number.
    """
    ram, *limit = [int(word) for word in text.split()]
    if limit and limit[0] > 0:
        return min(ram, limit[0] * 2**20)
    return ram * 2 // 3 if ram <= SMALL_BYTES else ram * 3 // 4


def available_bytes(text: str) -> int:
    """Return the memory that can be had without swapping, from what `vm_stat` prints.

    Raises:
        ValueError: It is something else.
    """
    size = _PAGE_SIZE.search(text)
    pages = {name: int(count) for name, count in _PAGE_LINE.findall(text)}
    if size is None or "free" not in pages:
        raise ValueError("vm_stat did not tell of pages")
    return int(size[1]) * sum(pages.get(name, 0) for name in _AVAILABLE)


def _has_metal(entry: dict[str, object]) -> bool:
    """Tell whether Metal can use a GPU; newer systems name its version, older ones its family or just say so."""
    told = [str(entry.get(key, "")) for key in _METAL_KEYS]
    return any(told) and not any("notsupported" in words for words in told)


def _count(value: object) -> int:
    return int(value) if isinstance(value, int) or (isinstance(value, str) and value.isdigit()) else 0


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S)
    if not done.stdout:
        raise subprocess.SubprocessError(f"{command[0]} printed nothing: {done.stderr[:100]}")
    return done.stdout
