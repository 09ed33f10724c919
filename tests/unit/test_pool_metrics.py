"""What a pool counts, in the text form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from llorch.wire.pools import Device
from roles.pool.metrics import Facts, LifecycleMetrics


def test_gauges_tell_what_is_there_when_they_are_asked() -> None:
    def device(name: str, backend: str) -> Device:
        return Device(
            id=name,
            uuid=name,
            name=name,
            backend="cuda" if backend == "cuda" else "cpu",
            memory_total_bytes=100,
            memory_used_bytes=30,
            memory_free_bytes=70,
            memory_allocated_bytes=20,
        )

    metrics = LifecycleMetrics(CollectorRegistry())
    metrics.registry.register(
        Facts(lambda: [device("cpu", "cpu"), device("cuda:0", "cuda")], lambda: ["ready", "ready"], lambda: 0.002)
    )
    metrics.starts.labels("ready").inc()

    shown = generate_latest(metrics.registry).decode().splitlines()

    assert "pool_mgr_gpus_total 1.0" in shown
    assert 'pool_mgr_gpu_vram_total_bytes{gpu_id="cuda:0"} 100.0' in shown
    assert 'pool_mgr_gpu_vram_allocated_bytes{gpu_id="cuda:0"} 20.0' in shown
    assert 'pool_mgr_workers_total{status="ready"} 2.0' in shown
    assert 'pool_mgr_workers_total{status="failed"} 0.0' in shown
    assert "pool_mgr_inventory_sample_ms 2.0" in shown
    assert 'pool_mgr_worker_starts_total{outcome="ready"} 1.0' in shown
