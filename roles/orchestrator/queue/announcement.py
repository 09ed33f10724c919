"""What the readers of a waiting job are told. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from llorch.wire import events
from roles.orchestrator.queue.order import Ticket
from roles.orchestrator.scheduler.decisions import Wait
from roles.orchestrator.scheduler.progress import Loading


def announcement(
    ticket: Ticket, *, position: int, wait: Wait | None, loading: Sequence[Loading]
) -> tuple[str, msgspec.Struct]:
    """Return the event, as kind and body, that says where a waiting job stands."""
    if loading:
        first = loading[0]
        return "loading", events.Loading(
            stage=stage(first),
            percent=round(first.progress, 1),
            worker_id=first.worker_id if first.known else "",
            pool_id=first.pool_id,
        )
    return "queued", events.Queued(
        job_id=ticket.id,
        position=position,
        correlation_id=ticket.correlation_id,
        waiting_for=wait.text if wait is not None else msgspec.UNSET,
    )


def stage(loading: Loading) -> Literal["starting", "loading", "downloading"]:
    """Return what happens to a model that jobs wait for."""
    if loading.downloading:
        return "downloading"
    return "loading" if loading.known and loading.progress > 0 else "starting"
