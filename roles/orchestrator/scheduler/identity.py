"""Whose jobs a worker is for: those of its model, if its engine runs that as the operator wants it now. Pure.

A worker of another time or another wish may answer otherwise. It counts as the worker of a model that nobody asks for:
it gets no jobs, is kept as long as any idle worker, and gives way like one.
"""

from __future__ import annotations

from llorch.models import stands_for
from llorch.wire.engine_options import EngineOptions, scaled
from llorch.wire.pools import Worker

STRANGE = "other options: "
"""What is put before the reference of a model; nothing that can be asked for begins so."""


def served(worker: Worker, wanted: EngineOptions) -> str:
    """Return what a worker serves: its model's reference, or a name that no job has."""
    return worker.model_ref if same(wanted, worker) else STRANGE + worker.model_ref


def same(wanted: EngineOptions, found: EngineOptions) -> bool:
    """Tell whether options are those wanted; files may be *wanted* by a name that is not pinned to a commit yet."""
    return (
        wanted.kv_type == found.kv_type
        and len(wanted.lora) == len(found.lora)
        and all(_same_adapter(*pair) for pair in zip(wanted.lora, found.lora, strict=True))
        and _same_file(wanted.draft, found.draft)
        and _same_file(wanted.projector, found.projector)
    )


def _same_adapter(wanted: str, found: str) -> bool:
    (wanted_ref, wanted_scale), (ref, scale) = scaled(wanted), scaled(found)
    return wanted_scale == scale and _same_file(wanted_ref, ref)


def _same_file(wanted: str, found: str) -> bool:
    return wanted == found or (bool(wanted and found) and stands_for(wanted, found))
