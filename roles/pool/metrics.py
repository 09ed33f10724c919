"""What a pool counts: devices and workers as they are when asked, starts and stops as they happen."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llorch.metrics import HttpMetrics
from llorch.wire.pools import Device, WorkerState

STATES: tuple[WorkerState, ...] = ("starting", "ready", "busy", "draining", "stopped", "failed")


class LifecycleMetrics(HttpMetrics):
    """The registry of a pool, and its counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.starts = Counter(
            "pool_mgr_worker_starts", "Workers started, by how that went.", ["outcome"], registry=registry
        )
        self.stops = Counter("pool_mgr_worker_stops", "Workers ended, by why.", ["reason"], registry=registry)
        self.downloads = Counter(
            "pool_mgr_model_downloads", "Model downloads ended, by how.", ["outcome"], registry=registry
        )


class Facts(Collector):
    """Gauges that are read from the pool itself when somebody asks, so that they cannot be stale or forgotten.

    Their names end in `_total` although they are gauges: that is what the system's first description called them.
    """

    def __init__(
        self,
        devices: Callable[[], Sequence[Device]],
        states: Callable[[], Iterable[WorkerState]],
        sample_s: Callable[[], float],
    ) -> None:
        self._devices = devices
        self._states = states
        self._sample_s = sample_s

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges."""
        gpus = [device for device in self._devices() if device.backend != "cpu"]
        yield GaugeMetricFamily("pool_mgr_gpus_total", "GPUs of this host.", value=len(gpus))
        total = GaugeMetricFamily("pool_mgr_gpu_vram_total_bytes", "Memory of a GPU.", labels=["gpu_id"])
        allocated = GaugeMetricFamily(
            "pool_mgr_gpu_vram_allocated_bytes", "Memory of a GPU that workers of this pool hold.", labels=["gpu_id"]
        )
        for gpu in gpus:
            total.add_metric([gpu.id], gpu.memory_total_bytes)
            allocated.add_metric([gpu.id], gpu.memory_allocated_bytes)
        yield total
        yield allocated
        workers = GaugeMetricFamily("pool_mgr_workers_total", "Workers, by state.", labels=["status"])
        tally = Tally(self._states())
        for state in STATES:
            workers.add_metric([state], tally[state])
        yield workers
        yield GaugeMetricFamily(
            "pool_mgr_inventory_sample_ms",
            "Time that the last look at all devices took.",
            value=self._sample_s() * 1000,
        )
