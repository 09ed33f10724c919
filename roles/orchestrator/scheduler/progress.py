"""Workers on their way, asked for or seen to be loading, and files of models. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from llorch.wire.models import Download
from llorch.wire.pools import WorkerReport

GRACE_MS = 10_000
"""How long a worker that was asked for counts as starting before a heartbeat shows it."""


@dataclass(frozen=True, slots=True)
class Loading:
    """A worker on its way, or the file of its model (`downloading`), for those who wait for it.

    A worker is not `known` until its pool has given it an id.
    """

    worker_id: str
    pool_id: str
    model_ref: str
    device: str = ""
    progress: float = 0.0
    known: bool = False
    downloading: bool = False


class Progress:
    """What is on its way, by model."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[Loading, int]] = {}
        self._starting: dict[str, dict[str, Loading]] = {}
        self._models: dict[str, dict[str, Loading]] = {}

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

    def shown(self, worker_ids: Collection[str]) -> list[Loading]:
        """Forget what was asked for and is there now; return it."""
        found = [self._asked[token][0] for token in self._asked if token in worker_ids]
        for loading in found:
            self.answered(loading.worker_id)
        return found

    def seen(self, pool_id: str, workers: Iterable[WorkerReport], downloads: Iterable[Download] = ()) -> None:
        """Take in which workers of a pool are loading, and which files it fetches."""
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
        for token in [token for token, (loading, _) in self._asked.items() if loading.pool_id == pool_id]:
            self.answered(token)

    def overdue(self, *, now_ms: int) -> list[tuple[str, str]]:
        """Return what was asked for too long ago, as tokens and models."""
        late = [(token, one) for token, (one, since_ms) in self._asked.items() if now_ms - since_ms >= GRACE_MS]
        return [(token, loading.model_ref) for token, loading in late if loading.worker_id]

    def _enter(self, token: str, loading: Loading) -> None:
        self._models.setdefault(loading.model_ref, {})[token] = loading

    def _drop(self, token: str, model_ref: str) -> None:
        found = self._models.get(model_ref, {})
        found.pop(token, None)
        if not found:
            self._models.pop(model_ref, None)
