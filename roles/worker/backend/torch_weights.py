"""A checkpoint's weights from its safetensors files onto a device. Reads files; computes nothing.

Strategy: every tensor is copied as it is read, so that no file stays mapped: one that somebody shortens later would
kill the process. What is multiplied with the same input is laid together, one multiplication instead of two or three.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open

from llorch.errors import ModelIncompatible, ModelInvalid, ModelNotFound
from llorch.wire.codec import UNREADABLE
from roles.worker.backend.torch_config import Shape

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
NUMBERS = {"BF16", "F16", "F32"}


@dataclass(slots=True)
class Layer:
    """One block's weights; a bias or a norm that the family has not is None."""

    attention_norm: torch.Tensor
    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    out: torch.Tensor
    out_bias: torch.Tensor | None
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor
    gate_up_bias: torch.Tensor | None
    down: torch.Tensor
    down_bias: torch.Tensor | None


@dataclass(slots=True)
class Weights:
    """All weights of a model; `head` is `embedding` itself where the two are tied."""

    embedding: torch.Tensor
    layers: list[Layer]
    norm: torch.Tensor
    head: torch.Tensor


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


def load(
    folder: Path, shape: Shape, *, dtype: torch.dtype, device: torch.device, on_progress: Callable[[float], None]
) -> Weights:
    """Load a model's weights, telling the percentage as it grows.

    Raises:
        ModelNotFound: A file is missing.
        ModelInvalid: A file is damaged, or a tensor is missing or has another shape than config.json says.
        ModelIncompatible: A tensor is of numbers that are not known here.
    """
    with ExitStack() as opened:
        files = _Files(folder, opened, dtype=dtype, device=device)
        width, q, kv = shape.width, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        layers = []
        for number in range(shape.layers):
            at = f"model.layers.{number}."
            attention, mlp = at + "self_attn.", at + "mlp."
            parts = [(attention + f"{name}_proj", rows) for name, rows in (("q", q), ("k", kv), ("v", kv))]
            gates = [(mlp + name, shape.inner) for name in ("gate_proj", "up_proj")]
            layers.append(
                Layer(
                    attention_norm=files.take(at + "input_layernorm.weight", width),
                    qkv=files.join(parts, width),
                    qkv_bias=files.biases(parts),
                    q_norm=files.maybe(attention + "q_norm.weight", shape.head_dim),
                    k_norm=files.maybe(attention + "k_norm.weight", shape.head_dim),
                    out=files.take(attention + "o_proj.weight", width, q),
                    out_bias=files.maybe(attention + "o_proj.bias", width),
                    mlp_norm=files.take(at + "post_attention_layernorm.weight", width),
                    gate_up=files.join(gates, width),
                    gate_up_bias=files.biases(gates),
                    down=files.take(mlp + "down_proj.weight", width, shape.inner),
                    down_bias=files.maybe(mlp + "down_proj.bias", width),
                )
            )
            on_progress(100 * (number + 1) / (shape.layers + 1))
        embedding = files.take("model.embed_tokens.weight", shape.vocab_size, width)
        head = embedding if shape.tied else files.take("lm_head.weight", shape.vocab_size, width)
        return Weights(embedding, layers, files.take("model.norm.weight", width), head)


class _Files:
    """The tensors of a checkpoint by name."""

    def __init__(self, folder: Path, opened: ExitStack, *, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self._by_name: dict[str, safe_open] = {}
        for path in _paths(folder):
            try:
                file = opened.enter_context(safe_open(path, framework="pt"))
            except FileNotFoundError:
                raise ModelNotFound(f"the model is not whole: there is no {path.name} in its folder") from None
            except (SafetensorError, OSError) as error:
                raise ModelInvalid(f"{path.name} is truncated or damaged, fetch it again: {error}") from None
            self._by_name |= dict.fromkeys(file.keys(), file)

    def maybe(self, name: str, *size: int) -> torch.Tensor | None:
        """Return a tensor, or None where the model has none of that name."""
        return self.take(name, *size) if name in self._by_name else None

    def take(self, name: str, *size: int) -> torch.Tensor:
        """Return a tensor, which must be of that size."""
        file = self._by_name.get(name)
        if file is None:
            raise ModelInvalid(f"the model is not whole: it has no tensor {name}")
        there = file.get_slice(name)
        if there.get_dtype() not in NUMBERS:
            raise ModelIncompatible(f"the engine torch does not compute with numbers of the type {there.get_dtype()}")
        if tuple(there.get_shape()) != size:
            raise ModelInvalid(f"the tensor {name} is {there.get_shape()} and must be {list(size)} by config.json")
        return file.get_tensor(name).to(device=self._device, dtype=self._dtype, copy=True)

    def join(self, parts: list[tuple[str, int]], width: int) -> torch.Tensor:
        """Return matrices one below the other."""
        return torch.cat([self.take(name + ".weight", rows, width) for name, rows in parts])

    def biases(self, parts: list[tuple[str, int]]) -> torch.Tensor | None:
        """Return the biases of such matrices, or None where they have none."""
        if parts[0][0] + ".bias" not in self._by_name:
            return None
        return torch.cat([self.take(name + ".bias", rows) for name, rows in parts])


def _paths(folder: Path) -> list[Path]:
    index = folder / INDEX
    if not index.exists():
        return [folder / SINGLE]
    try:
        names = set(msgspec.json.decode(index.read_bytes(), type=_Index).weight_map.values())
    except (OSError, *UNREADABLE) as error:
        raise ModelInvalid(f"{INDEX} cannot be read: {error}") from None
    if any(Path(name).name != name for name in names):
        raise ModelInvalid(f"{INDEX} names a file outside the model's folder")
    return [folder / name for name in sorted(names)]
