"""What a worker counts. No label has unbounded values."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from llorch.metrics import MS_BUCKETS, HttpMetrics


class WorkerMetrics(HttpMetrics):
    """The metrics of one worker; `outcome` is completed, failed, cancelled or refused."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.outcomes = Counter("worker_requests", "Jobs by how they ended.", ["outcome"], registry=registry)
        self.tokens_in = Counter("worker_tokens_in", "Prompt tokens of accepted jobs.", registry=registry)
        self.tokens_cached = Counter(
            "worker_tokens_cached", "Prompt tokens that were not computed anew.", registry=registry
        )
        self.tokens_generated = Counter("worker_tokens_generated", "Tokens generated.", registry=registry)
        self.drafted = Counter("worker_tokens_drafted", "Tokens that the draft model guessed.", registry=registry)
        self.accepted = Counter(
            "worker_tokens_draft_accepted", "Tokens that the draft model guessed right.", registry=registry
        )
        self.inference_ms = self._histogram("worker_inference_duration_ms", "From a job's slot to its end.")
        self.first_token_ms = self._histogram("worker_first_token_ms", "From a job's slot to its first token.")
        self.cancellation_ms = self._histogram("worker_cancellation_ms", "From a cancellation to the free slot.")

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=MS_BUCKETS, registry=self.registry)
