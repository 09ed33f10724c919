"""What an engine is told beside its model: KV cache type, LoRA adapters, draft model, projector, pooling. Pure.

Each of the files is a model reference where roles and people speak of it, and a path where a worker is started.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
Pooling = Literal["mean", "cls", "last"]
KV_BLOCKS: Mapping[KvType, tuple[int, int]] = {
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "q8_0": (32, 34),
    "q5_1": (32, 24),
    "q5_0": (32, 22),
    "q4_1": (32, 20),
    "q4_0": (32, 18),
    "iq4_nl": (32, 18),
}
"""Of each type how many numbers are stored together, and in how many bytes."""
MAX_LORA = 16
Lora = Annotated[str, Meta(min_length=1, max_length=1040, description="A LoRA adapter, with its scale behind a colon")]
File = Annotated[str, Meta(max_length=1024)]
_SCALED = re.compile(r"(?s)(.+):(-?\d{1,3}(?:[.]\d{1,6})?)")


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine runs a model.

    `lora` are adapters, each as `REF` or `REF:SCALE`; `draft` is a small model of the same vocabulary that guesses
    tokens for the large one to check; `projector` turns images into what the model reads. `pooling` is how the vectors
    of a text's tokens become one, where the model's own file says nothing or is to be overruled.
    """

    kv_type: Annotated[KvType, Meta(description="How the KV cache is stored")] = "f16"
    lora: Annotated[tuple[Lora, ...], Meta(max_length=MAX_LORA)] = ()
    draft: File = ""
    projector: File = ""
    pooling: Annotated[Literal["", Pooling], Meta(description="How the vectors of a text become one")] = ""


PLAIN = EngineOptions()
T = TypeVar("T", bound=EngineOptions)


def options_of(told: EngineOptions) -> EngineOptions:
    """Return the options alone of what has others, too."""
    return EngineOptions(**{name: getattr(told, name) for name in EngineOptions.__struct_fields__})


def fields_of(options: EngineOptions) -> dict[str, object]:
    """Return the options that are not the defaults, by name."""
    return {
        name: getattr(options, name)
        for name in EngineOptions.__struct_fields__
        if getattr(options, name) != getattr(PLAIN, name)
    }


def scaled(adapter: str) -> tuple[str, float]:
    """Return an adapter's file and its scale, which is 1 where none is told."""
    found = _SCALED.fullmatch(adapter)
    return (found[1], float(found[2])) if found else (adapter, 1.0)


def files(options: EngineOptions) -> list[str]:
    """Return all files that are named, without scales."""
    return [name for name in (*(scaled(one)[0] for one in options.lora), options.draft, options.projector) if name]


def renamed(options: T, name: Callable[[str], str]) -> T:
    """Return the options with another name for each file; scales stay."""

    def adapter(told: str) -> str:
        file, _ = scaled(told)
        return name(file) + told[len(file) :]

    return msgspec.structs.replace(
        options,
        lora=tuple(adapter(one) for one in options.lora),
        draft=options.draft and name(options.draft),
        projector=options.projector and name(options.projector),
    )
