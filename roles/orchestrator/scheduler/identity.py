"""Whose jobs a worker is for: those of its model, if its engine runs that as the operator wants it now. Pure.

A worker of another time or another wish may answer otherwise, and one that speaks another version may misunderstand. It
counts as the worker of a model that nobody asks for: it gets no jobs, is kept as long as any idle worker, and gives way
like one.
"""

from __future__ import annotations

from collections.abc import Callable

from llorch.wire.engine_options import EngineOptions, scaled
from llorch.wire.pools import Worker
from llorch.wire.protocol import foreign

STRANGE = "not as wanted: "
"""What is put before the reference of a model; nothing that can be asked for begins so."""


WITHOUT_OPTIONS = "started a worker without the options it was told; it may be of an old version"
Means = Callable[[str, str], bool]
"""Tells whether the file that a worker has, named last, is what is wanted by another name."""


def served(worker: Worker, wanted: EngineOptions, *, means: Means) -> str:
    """Return what a worker serves: its model's reference, or a name that no job has."""
    ours = same(wanted, worker, means=means) and not foreign(worker.protocol)
    return worker.model_ref if ours else STRANGE + worker.model_ref


def same(wanted: EngineOptions, found: EngineOptions, *, means: Means) -> bool:
    """Tell whether options are those wanted; files may be *wanted* by names that are not pinned to a commit."""

    def same_file(name: str, ref: str) -> bool:
        return name == ref or (bool(name and ref) and means(name, ref))

    def same_adapter(told: str, has: str) -> bool:
        (name, wanted_scale), (ref, scale) = scaled(told), scaled(has)
        return wanted_scale == scale and same_file(name, ref)

    return (
        wanted.kv_type == found.kv_type
        and wanted.pooling == found.pooling
        and len(wanted.lora) == len(found.lora)
        and all(same_adapter(*pair) for pair in zip(wanted.lora, found.lora, strict=True))
        and same_file(wanted.draft, found.draft)
        and same_file(wanted.projector, found.projector)
    )
