"""The worker's metrics carry the names that dashboards ask for."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from llorch.metrics import exposition
from roles.worker.metrics import WorkerMetrics


@pytest.mark.parametrize(
    "name",
    [
        'worker_requests_total{outcome="completed"} 1.0',
        "worker_tokens_in_total 0.0",
        "worker_tokens_generated_total 0.0",
        "worker_inference_duration_ms_count 0.0",
        "worker_first_token_ms_count 0.0",
        "worker_cancellation_ms_count 0.0",
    ],
)
def test_every_metric_is_exposed_by_its_name(name: str) -> None:
    metrics = WorkerMetrics(CollectorRegistry())
    metrics.outcomes.labels("completed").inc()

    body, _ = exposition(metrics.registry)

    assert name in body.decode().splitlines()
