"""The orchestrator's own metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from llorch.metrics import MS_BUCKETS, HttpMetrics

FINE_BUCKETS_MS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


class OrchestratorMetrics(HttpMetrics):
    """What the queue and the scheduler count. No label takes unbounded values."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        super().__init__(registry)
        self.queue_depth = Gauge("orchd_queue_depth", "Jobs that wait.", ["priority"], registry=registry)
        self.enqueued = Counter("orchd_tasks_enqueued", "Submissions.", ["outcome"], registry=registry)
        self.dispatched = Counter("orchd_tasks_dispatched", "Attempts that ended.", ["outcome"], registry=registry)
        self.scheduling_ms = Histogram(
            "orchd_scheduling_latency_ms", "One decision.", buckets=FINE_BUCKETS_MS, registry=registry
        )
        self.queue_wait_ms = Histogram(
            "orchd_queue_wait_ms", "From admission to a worker's start.", buckets=MS_BUCKETS, registry=registry
        )
        self.first_token_ms = Histogram(
            "orchd_first_token_ms", "From admission to the first token.", buckets=MS_BUCKETS, registry=registry
        )
        self.tokens_in = Counter("orchd_prompt_tokens", "Of completed jobs.", registry=registry)
        self.tokens_cached = Counter(
            "orchd_prompt_tokens_cached", "Of them those that were not computed anew.", registry=registry
        )
        self.retries = Counter(
            "orchd_retries", "Attempts that were followed by another.", ["reason"], registry=registry
        )
