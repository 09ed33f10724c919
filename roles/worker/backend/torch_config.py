"""What a checkpoint's config.json says, as the torch engine needs it; refuses what it cannot compute. Pure: no torch.

Source of the fields: https://github.com/huggingface/transformers, `configuration_llama.py`, `configuration_qwen2.py`,
`configuration_qwen3.py`, and `modeling_rope_utils.py` for the positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from llorch.errors import ModelIncompatible, ModelInvalid
from llorch.wire.codec import UNREADABLE

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
DTYPE_NAMES: Mapping[str, str] = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
"""What a model of such numbers is called."""


class _File(msgspec.Struct, frozen=True):
    model_type: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float | None = None
    rope_scaling: dict[str, object] | None = None
    rope_parameters: dict[str, object] | None = None
    hidden_act: str = "silu"
    tie_word_embeddings: bool = False
    use_sliding_window: bool = False
    sliding_window: int | None = None
    quantization_config: dict[str, object] | None = None
    eos_token_id: int | list[int] | None = None


class _Generation(msgspec.Struct, frozen=True):
    eos_token_id: int | list[int] | None = None


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions: the base, and how the frequencies are changed for a longer context."""

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 0

    def frequencies(self, head_dim: int) -> list[float]:
        """Return the angle by which each pair of a head's numbers turns from one token to the next."""
        plain = [self.theta ** -(2 * pair / head_dim) for pair in range(head_dim // 2)]
        if self.kind == "linear":
            return [frequency / self.factor for frequency in plain]
        return [self._stretched(frequency) for frequency in plain] if self.kind == "llama3" else plain

    def _stretched(self, frequency: float) -> float:
        wavelength = 2 * math.pi / frequency
        if wavelength < self.original_context / self.high_freq_factor:
            return frequency
        if wavelength > self.original_context / self.low_freq_factor:
            return frequency / self.factor
        smooth = (self.original_context / wavelength - self.low_freq_factor) / (
            self.high_freq_factor - self.low_freq_factor
        )
        return (1 - smooth) * frequency / self.factor + smooth * frequency


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's sizes; lengths in numbers, `eos` the tokens that end a text."""

    family: str
    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    norm_eps: float
    tied: bool
    rope: Rope
    eos: tuple[int, ...] = ()


def read_shape(config: bytes, generation: bytes = b"") -> Shape:
    """Read a config.json, and the generation_config.json beside it where there is one.

    Raises:
        ModelInvalid: It is not what such a file is, or its sizes cannot be those of a model.
        ModelIncompatible: A family, or a variant of one, that this engine does not compute.
    """
    try:
        kind = msgspec.json.decode(config, type=dict[str, object]).get("model_type")
        if kind not in FAMILIES:
            raise ModelIncompatible(
                f"the engine torch does not know models of the type {str(kind)[:64]!r}; it knows {', '.join(FAMILIES)}"
            )
        found = msgspec.json.decode(config, type=_File)
        told = msgspec.json.decode(generation, type=_Generation) if generation else _Generation()
    except UNREADABLE as error:
        raise ModelInvalid(f"the model's config.json cannot be used: {error}") from None
    _check(found)
    ends = told.eos_token_id if told.eos_token_id is not None else found.eos_token_id
    return Shape(
        family=found.model_type,
        width=found.hidden_size,
        inner=found.intermediate_size,
        layers=found.num_hidden_layers,
        heads=found.num_attention_heads,
        kv_heads=found.num_key_value_heads or found.num_attention_heads,
        head_dim=_head_dim(found),
        vocab_size=found.vocab_size,
        context_length=found.max_position_embeddings,
        norm_eps=found.rms_norm_eps,
        tied=found.tie_word_embeddings,
        rope=_rope(found),
        eos=tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,),
    )


def _head_dim(found: _File) -> int:
    return found.head_dim or (128 if found.model_type == "qwen3" else found.hidden_size // found.num_attention_heads)


def _check(found: _File) -> None:
    heads, kv_heads = found.num_attention_heads, found.num_key_value_heads or found.num_attention_heads
    sizes = (found.hidden_size, found.intermediate_size, found.num_hidden_layers, heads, kv_heads, found.vocab_size)
    if min(*sizes, found.max_position_embeddings) < 1 or heads % kv_heads or _head_dim(found) % 2:
        raise ModelInvalid("the model's config.json has sizes that no model can have")
    sliding = found.use_sliding_window or (found.model_type == "mistral" and found.sliding_window is not None)
    lacks: Sequence[tuple[bool, str]] = (
        (found.quantization_config is not None, "quantised safetensors; take the model in GGUF form"),
        (sliding, "attention with a sliding window"),
        (found.hidden_act != "silu", f"the activation {found.hidden_act[:64]!r}"),
    )
    for is_so, what in lacks:
        if is_so:
            raise ModelIncompatible(f"the engine torch does not compute {what}")


def _rope(found: _File) -> Rope:
    said = {**(found.rope_scaling or {}), **(found.rope_parameters or {})}
    kind = said.get("rope_type", said.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise ModelIncompatible(f"the engine torch does not compute positions of the kind {str(kind)[:64]!r}")

    def number(name: str, otherwise: float) -> float:
        value = said.get(name, otherwise)
        if not isinstance(value, int | float) or value <= 0:
            raise ModelInvalid(f"the model's config.json has no number above 0 as {name}")
        return float(value)

    return Rope(
        theta=number("rope_theta", found.rope_theta or 10_000.0),
        kind=str(kind),
        factor=number("factor", 1.0),
        low_freq_factor=number("low_freq_factor", 1.0),
        high_freq_factor=number("high_freq_factor", 4.0),
        original_context=int(number("original_max_position_embeddings", found.max_position_embeddings)),
    )
