"""Whether a model fits on the disk and in the budget, and which models would have to go for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llorch.errors import DiskFull
from llorch.wire.models import Evicted, StoredModel

MARGIN_BYTES = 256 * 1024 * 1024
MARGIN_SHARE = 100
"""So much of the disk, at most `MARGIN_BYTES`, or one part in so many, stays free: others write to it too."""


@dataclass(frozen=True, slots=True)
class Space:
    """The disk of the models, and what is allowed of it; `budget_bytes` 0 is no limit.

    `promised_bytes` is what the downloads that run have still to write.
    """

    total_bytes: int
    free_bytes: int
    models_bytes: int
    promised_bytes: int = 0
    budget_bytes: int = 0

    def available_bytes(self) -> int:
        """Return how large a further model may be."""
        margin = min(MARGIN_BYTES, self.total_bytes // MARGIN_SHARE)
        left = self.free_bytes - self.promised_bytes - margin
        if self.budget_bytes:
            left = min(left, self.budget_bytes - self.models_bytes - self.promised_bytes)
        return max(0, left)


def victims(models: Sequence[StoredModel], shortage_bytes: int) -> list[Evicted] | None:
    """Return the models to delete so that *shortage_bytes* come free, least recently used first; None: not enough.

    Only what can be fetched again goes: downloads, but none that is pinned or that a worker uses. A model that turns
    out not to be needed, because one after it is large enough, stays.
    """
    free = sorted(
        (model for model in models if model.origin == "hub" and not model.pinned and not model.in_use),
        key=lambda model: (max(model.last_used_ms, model.added_ms), model.model_id),
    )
    chosen: list[StoredModel] = []
    for model in free:
        if sum(m.size_bytes for m in chosen) >= shortage_bytes:
            break
        chosen.append(model)
    freed = sum(model.size_bytes for model in chosen)
    if freed < shortage_bytes:
        return None
    for model in chosen[::-1]:
        if freed - model.size_bytes >= shortage_bytes:
            chosen.remove(model)
            freed -= model.size_bytes
    return [
        Evicted(
            model_id=model.model_id,
            model_ref=model.model_ref,
            size_bytes=model.size_bytes,
            last_used_ms=max(model.last_used_ms, model.added_ms),
        )
        for model in chosen
    ]


def make(space: Space, models: Sequence[StoredModel], needed_bytes: int, *, evict: bool) -> list[Evicted]:
    """Return the models that have to go for *needed_bytes* more; none when there is room.

    Raises:
        DiskFull: No room, and none can be made, or not without *evict*; `details` has the bytes and the plan.
    """
    available = space.available_bytes()
    if needed_bytes <= available:
        return []
    plan = victims(models, needed_bytes - available)
    if plan is not None and evict:
        return plan
    what = "the models' budget" if _by_budget(space, available) else "the disk"
    message = f"the model needs {_shown(needed_bytes)} more, and {what} has {_shown(available)} left"
    if plan:
        names = ", ".join(victim.model_ref for victim in plan)
        message += f"; with evict, these would be deleted, least recently used first: {names}"
    else:
        message += "; delete other models, or choose a smaller one"
    raise DiskFull(
        message,
        details={
            "required_bytes": needed_bytes,
            "available_bytes": available,
            "evict": [
                {"model_id": v.model_id, "model_ref": v.model_ref, "size_bytes": v.size_bytes} for v in plan or []
            ],
        },
    )


def _by_budget(space: Space, available: int) -> bool:
    return bool(space.budget_bytes) and available == max(
        0, space.budget_bytes - space.models_bytes - space.promised_bytes
    )


def _shown(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"
