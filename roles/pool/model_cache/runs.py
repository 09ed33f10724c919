"""The downloads that this process knows of: those that run, and those that ended lately. Starts and fetches nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from llorch import models
from llorch.errors import NotFound
from llorch.models import HubRef
from llorch.wire.models import FINAL, Download
from roles.pool.model_cache import progress
from roles.pool.model_cache.ledger import DownloadRecord
from roles.pool.model_cache.pace import Pace

KEEP_ENDED = 50


@dataclass(slots=True, kw_only=True)
class Run:
    """A download: what is told of it, what is kept, and its task."""

    ref: HubRef
    record: DownloadRecord
    view: Download
    changed: asyncio.Event
    pace: Pace
    task: asyncio.Task[None] | None = None
    unwanted: bool = False
    failures: int = 0


class Runs:
    """All of them, by their models' ids, oldest first."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    def all(self) -> list[Run]:
        """Return all."""
        return list(self._runs.values())

    def find(self, download_id: str) -> Run | None:
        """Return one, if it is there."""
        return self._runs.get(download_id)

    def get(self, download_id: str) -> Run:
        """Return one.

        Raises:
            NotFound: None with that id.
        """
        if (run := self._runs.get(download_id)) is None:
            raise NotFound("there is no download with that id, or it ended long ago")
        return run

    def enter(self, ref: HubRef, record: DownloadRecord) -> Run:
        """Take in a new one, in place of an earlier one of the same model; the oldest that ended are forgotten."""
        key = models.model_id(str(ref))
        ended = [key for key, run in self._runs.items() if run.view.state in FINAL and not run.record.brought]
        for old in ended[: max(0, len(ended) - KEEP_ENDED)]:
            del self._runs[old]
        self._runs.pop(key, None)
        new = Download(download_id=key, model_ref=str(ref), state="queued", created_ms=record.created_ms)
        run = self._runs[key] = Run(
            ref=ref, record=record, view=record.failed or new, changed=asyncio.Event(), pace=Pace()
        )
        return run

    def promised_bytes(self, *, beside: Run | None = None) -> int:
        """Return what all of them, or those beside one, have still to write, as far as is known."""
        return sum(progress.left_bytes(run.view) for run in self._runs.values() if run is not beside)
