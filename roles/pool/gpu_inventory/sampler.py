"""All devices of this host, measured in a thread of their own so that a slow driver never blocks the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import psutil
import pynvml

from llorch import log
from llorch.wire.pools import Device
from roles.pool.gpu_inventory.cpu import Cpu
from roles.pool.gpu_inventory.metal import Metal
from roles.pool.gpu_inventory.nvml import Library, Nvml

MAX_AGE_S = 1.0
PATIENCE_S = 3.0
_log = log.get("pool.inventory")


class Sampler:
    """The newest sample of all devices; its one thread is the only one to measure and to replace it.

    Args:
        is_ours: Tells whether a process belongs to this pool's workers; called in the thread.
        library: What is asked for NVIDIA GPUs.
    """

    def __init__(self, is_ours: Callable[[int], bool] = lambda pid: False, library: Library = pynvml) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inventory")
        self._cpu = Cpu()
        self._nvml = Nvml(library, is_ours, named=os.environ.get("CUDA_VISIBLE_DEVICES"))
        self._metal = Metal() if sys.platform == "darwin" else None
        self._newest: list[Device] = []
        self._held: Mapping[str, Mapping[int, int]] = {}
        self._taken = float("-inf")
        self.cost_s = 0.0
        """How long the last sample took."""

    async def sample(self, *, max_age_s: float = MAX_AGE_S) -> list[Device]:
        """Return all devices as they were at most *max_age_s* ago; older only where they cannot be measured now."""
        if time.monotonic() - self._taken <= max_age_s:
            return self._newest
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await loop.run_in_executor(self._thread, self._measure, max_age_s)
        except TimeoutError:
            _log.warning("inventory_slow", waited_s=PATIENCE_S)
        except (OSError, psutil.Error) as error:
            _log.warning("inventory_failed", reason=str(error))
        return self._newest

    @property
    def newest(self) -> list[Device]:
        """The last sample, however old."""
        return self._newest

    async def held_bytes(self, devices: Iterable[str], is_part: Callable[[int], bool]) -> int:
        """Return what processes hold of some GPUs now, as far as their driver tells.

        Args:
            devices: Their ids.
            is_part: Tells whether a process counts; called in a thread.
        """
        await self.sample(max_age_s=0)
        held = [one for device in devices for one in self._held.get(device, {}).items()]
        return await asyncio.to_thread(lambda: sum(size for pid, size in held if is_part(pid)))

    def close(self) -> None:
        """Let go of the drivers."""
        self._thread.submit(self._nvml.close)
        self._thread.shutdown(wait=False)

    def _measure(self, max_age_s: float) -> list[Device]:
        began = time.monotonic()
        if began - self._taken > max_age_s:
            metal = self._metal.read() if self._metal else []
            self._newest = [self._cpu.read(), *self._nvml.read(), *metal]
            self._held = self._nvml.held_bytes
            self._taken = time.monotonic()
            self.cost_s = self._taken - began
        return self._newest
