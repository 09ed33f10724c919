"""The worker: one model for its life, over HTTP and SSE."""
