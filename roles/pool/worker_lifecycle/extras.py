"""The files that a worker is to have beside its model: do they go with it, and what do they take? Pure.

What llama.cpp would find out while it loads is told before a process is started. Source of the rules: llama.cpp,
`common_speculative_are_compatible` (common/speculative.cpp) and `llama_adapter_lora_init` (src/llama-adapter.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llorch.abilities import check_pooling
from llorch.errors import BackendUnavailable, ModelIncompatible
from llorch.wire.engine_options import KV_BLOCKS, PLAIN, EngineOptions, fields_of, renamed
from llorch.wire.pools import Engine, ModelKind
from roles.pool.model_cache.gguf import Metadata, Tokens

MOST_TOKENS_APART, FIRST_COMPARED = 128, 5
"""Two vocabularies may differ by so many tokens at their end, and in those before this one."""


@dataclass(frozen=True, slots=True)
class Extra:
    """One file beside the model: how it is called, where it is, what it says."""

    ref: str
    path: Path
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Extras:
    """What a worker has beside its model, and how it runs that.

    `tokens` are the vocabularies of the model and of its draft model, where there is one.
    """

    options: EngineOptions = PLAIN
    lora: Sequence[Extra] = ()
    draft: Extra | None = None
    projector: Extra | None = None
    tokens: tuple[Tokens, Tokens] | None = None

    @property
    def located(self) -> EngineOptions:
        """The options with the paths of their files in place of references."""
        found = [*self.lora, *(extra for extra in (self.draft, self.projector) if extra is not None)]
        paths = {extra.ref: str(extra.path) for extra in found}
        return renamed(self.options, paths.__getitem__)


NO_EXTRAS = Extras()


def check_extras(model: Metadata, extras: Extras, engine: Engine) -> None:
    """Refuse what cannot be run together.

    Raises:
        BackendUnavailable: The engine does not have such options.
        ModelIncompatible: A file is of another kind, or does not go with the model.
    """
    told = fields_of(extras.options)
    if told and engine != "llamacpp":
        raise BackendUnavailable(f"the engine {engine} does not have {', '.join(told)}; llamacpp does")
    check_pooling(model.pooling, extras.options)
    _check_kv(model, extras.options, "the model")
    for adapter in extras.lora:
        _check_kind(adapter, "adapter", "lora")
        if adapter.metadata.adapter != "lora":
            raise ModelIncompatible(f"lora: {adapter.ref} is an adapter, but none of LoRA")
        if adapter.metadata.architecture != model.architecture:
            raise ModelIncompatible(
                f"lora: {adapter.ref} is for models of the architecture {adapter.metadata.architecture!r}, "
                f"this one is {model.architecture!r}"
            )
    if extras.draft is not None:
        _check_kind(extras.draft, "model", "draft")
        _check_kv(extras.draft.metadata, extras.options, "the draft model")
        if extras.tokens is None or not alike(*extras.tokens):
            raise ModelIncompatible(f"draft: {extras.draft.ref} has another vocabulary than the model")
    if extras.projector is not None:
        _check_kind(extras.projector, "projector", "projector")


def alike(one: Tokens, other: Tokens) -> bool:
    """Tell whether two vocabularies are the same, but for what llama.cpp allows."""
    if one.kind != other.kind or one.ends != other.ends or abs(one.count - other.count) > MOST_TOKENS_APART:
        return False
    short, long = sorted((_compared(one), _compared(other)), key=len)
    return bool(short) and long.startswith(short)


def _compared(tokens: Tokens) -> bytes:
    """Return the tokens that have to be the same, each with its length in front."""
    position = 0
    for _ in range(min(FIRST_COMPARED, tokens.count)):
        position += 8 + int.from_bytes(tokens.stored[position : position + 8], "little")
    return tokens.stored[position:]


def _check_kv(model: Metadata, options: EngineOptions, what: str) -> None:
    block, _ = KV_BLOCKS[options.kv_type]
    if model.key_length % block or model.value_length % block:
        raise ModelIncompatible(
            f"kv_type {options.kv_type} stores {block} numbers together, and the heads of {what} have "
            f"{model.key_length}; use f16"
        )


def _check_kind(extra: Extra, kind: ModelKind, option: str) -> None:
    found = extra.metadata.kind
    if found != kind:
        names = {"model": "a model", "adapter": "an adapter", "projector": "a projector"}
        raise ModelIncompatible(f"{option}: {extra.ref} is {names[found]}, not {names[kind]}")
