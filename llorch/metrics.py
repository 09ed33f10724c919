"""Prometheus metrics: one registry a role, so that several roles can share a process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

MS_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000)


class HttpMetrics:
    """What every role counts about the requests it answers; routes are templates, never raw paths."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "llorch_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self.duration_ms = Histogram(
            "llorch_http_request_duration_ms",
            "Time to answer, streams aside.",
            ["route"],
            buckets=MS_BUCKETS,
            registry=registry,
        )


def exposition(registry: CollectorRegistry) -> tuple[bytes, str]:
    """Return the text form of all metrics and its content type."""
    return generate_latest(registry), CONTENT_TYPE_LATEST
