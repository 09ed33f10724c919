"""Workers on their way, asked for or seen to be loading, and files of models. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from llorch.wire.engine_options import EngineOptions
from llorch.wire.models import Download
from llorch.wire.pools import WorkerReport

GRACE_MS = 10_000
MOST_GRACE_MS = 60_000
"""How long a worker that was asked for counts as starting before a heartbeat shows it, and while no heartbeat comes."""
TOLD_AFTER_MS = 2_000
"""What a pool says so soon after a worker was asked for may have been written down before."""


@dataclass(frozen=True, slots=True)
class Loading:
    """A worker on its way, or the file of its model (`downloading`), for those who wait for it.

    A worker is not `known` until its pool has given it an id. *options* are what it was asked for with.
    """

    worker_id: str
    pool_id: str
    model_ref: str
    device: str = ""
    progress: float = 0.0
    known: bool = False
    downloading: bool = False
    options: EngineOptions | None = None


class Progress:
    """What is on its way, by model."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[Loading, int]] = {}
        self._starting: dict[str, dict[str, Loading]] = {}
        self._models: dict[str, dict[str, Loading]] = {}
        self._heard_ms: dict[str, int] = {}

    def of(self, model_ref: str) -> list[Loading]:
        """Return the workers of a model that are on their way; those that load first."""
        found = self._models.get(model_ref)
        return sorted(found.values(), key=lambda one: (not one.known, -one.progress)) if found else []

    def asked(self, token: str, loading: Loading, *, now_ms: int) -> None:
        """Note that a worker was asked for."""
        self._asked[token] = (loading, now_ms)
        self._enter(token, loading)

    def answered(self, token: str) -> None:
        """Note that it is not waited for under this token any more."""
        asked = self._asked.pop(token, None)
        if asked is not None:
            self._drop(token, asked[0].model_ref)

    def shown(self, pool_id: str, worker_ids: Collection[str]) -> list[Loading]:
        """Forget what a pool was asked for and has now; return it."""
        asked = [self._asked[token][0] for token in self._asked if token in worker_ids]
        found = [loading for loading in asked if loading.pool_id == pool_id]
        for loading in found:
            self.answered(loading.worker_id)
        return found

    def seen(
        self, pool_id: str, workers: Iterable[WorkerReport], downloads: Iterable[Download] = (), *, now_ms: int = 0
    ) -> None:
        """Take in which workers of a pool are loading, and which files it fetches; *now_ms* if it has just said so."""
        self._heard_ms[pool_id] = max(now_ms, self._heard_ms.get(pool_id, 0))
        for worker_id, loading in self._starting.pop(pool_id, {}).items():
            self._drop(worker_id, loading.model_ref)
        now = {
            worker.worker_id: Loading(
                worker.worker_id, pool_id, worker.model_ref, worker.device, worker.progress, known=True
            )
            for worker in workers
            if worker.status == "starting"
        }
        now |= {
            f"download {one.download_id}": Loading(
                "", pool_id, one.model_ref, progress=one.percent, known=True, downloading=True
            )
            for one in downloads
            if one.state != "failed"
        }
        if now:
            self._starting[pool_id] = now
        for worker_id, loading in now.items():
            self._enter(worker_id, loading)

    def leave(self, pool_id: str) -> None:
        """Forget what a pool was loading, and what it was asked for."""
        self.seen(pool_id, ())
        self._heard_ms.pop(pool_id, None)
        for token in [token for token, (loading, _) in self._asked.items() if loading.pool_id == pool_id]:
            self.answered(token)

    def overdue(self, *, now_ms: int) -> list[tuple[str, str]]:
        """Return what was asked for too long ago for its pool not to have shown it, as tokens and models."""

        def is_late(loading: Loading, since_ms: int) -> bool:
            heard = self._heard_ms.get(loading.pool_id, 0) - since_ms >= TOLD_AFTER_MS
            return now_ms - since_ms >= (GRACE_MS if heard else MOST_GRACE_MS)

        late = [(token, loading) for token, (loading, since_ms) in self._asked.items() if is_late(loading, since_ms)]
        return [(token, loading.model_ref) for token, loading in late if loading.worker_id]

    def _enter(self, token: str, loading: Loading) -> None:
        self._models.setdefault(loading.model_ref, {})[token] = loading

    def _drop(self, token: str, model_ref: str) -> None:
        found = self._models.get(model_ref, {})
        found.pop(token, None)
        if not found:
            self._models.pop(model_ref, None)
