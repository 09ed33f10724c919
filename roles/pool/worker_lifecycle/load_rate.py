"""How fast this host loads models, from how its last large ones were loaded. Pure."""

from __future__ import annotations

from collections import deque

USUAL_BYTES_S = 100_000_000
"""What a host is taken to do at least before it has shown that it is slower."""
SLOWEST_BYTES_S = 5_000_000
"""No host is taken to be slower: a load that hangs is to be given up."""
LARGE_BYTES = 1_000_000_000
"""What is smaller loads in a time that says nothing of the disk."""
KEPT = 5


class LoadRate:
    """The last loads of large models; the slowest of them counts, so that one that was cached promises nothing."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=KEPT)

    def saw(self, weights_bytes: int, load_ms: int) -> None:
        """Take note of a load, as the worker itself has measured it; 0 ms where it did not."""
        if weights_bytes >= LARGE_BYTES and load_ms > 0:
            self._seen.append(weights_bytes * 1000 / load_ms)

    def time_s(self, weights_bytes: int) -> float:
        """Return the time that loading may take, without any sign of progress."""
        rate = min(USUAL_BYTES_S, *self._seen) if self._seen else USUAL_BYTES_S
        return weights_bytes / max(rate, SLOWEST_BYTES_S)
