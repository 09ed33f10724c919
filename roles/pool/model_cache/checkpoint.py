"""What a folder in Hugging Face's layout says about its model, read without loading it. Reads files; starts nothing.

Formats: https://github.com/huggingface/safetensors#format, and config.json as `transformers` writes it.

Strategy: a folder may be hostile. Lengths are checked before they are used, and only headers are read.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from llorch.checkpoint_files import BESIDE, CONFIG, INDEX, SINGLE, TOKENIZER, belongs
from llorch.errors import ModelIncompatible, ModelInvalid
from llorch.wire.codec import UNREADABLE
from roles.pool.model_cache.gguf import MAX_LAYERS, Metadata

MAX_HEADER_BYTES = 64 * 1024 * 1024
MAX_TEXT_BYTES = 16 * 1024 * 1024
MAX_DIMENSIONS = 8
COMPUTED_BYTES = 2
"""Bytes of one number as the engine computes by default, in bfloat16, whatever the files hold."""
MAX_TOKEN_BYTES = 2**31 - 1
"""Its tokens are not read here: no prompt is certainly too long before the worker has counted it."""
ARCHITECTURES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""What the engine for such folders knows."""
NUMBER_BYTES: Mapping[str, int] = {"BF16": 2, "F16": 2, "F32": 4}

_Kind = TypeVar("_Kind")
_SHARD = re.compile(r"[\w.-]+\.safetensors", re.ASCII)


class _Config(msgspec.Struct, frozen=True):
    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int
    intermediate_size: int = 0
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int = 0


class _Kinship(msgspec.Struct, frozen=True):
    model_type: str


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


class _Tensor(msgspec.Struct, frozen=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]

    @property
    def numbers(self) -> int:
        """How many it holds."""
        return math.prod(self.shape)


def is_folder(path: Path) -> bool:
    """Tell whether there is a folder. Not one that cannot be looked at, where `Path.is_dir` raises."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """Tell whether there is a file, in the same way."""
    return os.path.isfile(path)  # noqa: PTH113


def is_link(path: Path) -> bool:
    """Tell whether there is a link, wherever it leads, in the same way."""
    return os.path.islink(path)  # noqa: PTH114


def is_one(folder: Path) -> bool:
    """Tell whether a folder is a checkpoint: a config.json, and weights as safetensors."""
    return is_file(folder / CONFIG) and (is_file(folder / INDEX) or is_file(folder / SINGLE))


def files(folder: Path) -> list[Path]:
    """Return the files of a checkpoint: config.json, all weights, the tokeniser, and what is there beside them.

    Raises:
        ModelInvalid: The index of the weights cannot be read.
        OSError: The same.
    """
    found = [folder / CONFIG]
    if (folder / INDEX).exists():
        index = _decoded(folder / INDEX, _Index)
        names = sorted(set(index.weight_map.values()))
        if not names or not all(map(_SHARD.fullmatch, names)):
            raise ModelInvalid(f"{INDEX} names no files of its own folder")
        found += [folder / INDEX, *(folder / name for name in names)]
    else:
        found.append(folder / SINGLE)
    return found + [folder / name for name in BESIDE if name == TOKENIZER or is_file(folder / name)]


def present(folder: Path) -> list[Path]:
    """Return those files of a folder that can be a checkpoint's, whether it is whole or not; none if it has none."""
    try:
        found = sorted(path for path in folder.iterdir() if belongs(path.name) and (is_file(path) or is_link(path)))
    except OSError:
        return []
    return sorted(found, key=lambda path: path.name != CONFIG)


def check_architecture(config: Path) -> None:
    """Refuse a model that the engine for such folders does not know, by its config.json alone, wherever that lies.

    Raises:
        ModelInvalid: The file is damaged.
        ModelIncompatible: It is of another architecture.
        OSError: It cannot be read.
    """
    kind = _decoded(config, _Kinship, called=CONFIG).model_type
    if kind not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ModelIncompatible(
            f"the engine torch does not know models of the architecture {kind[:64]!r}, only {known}; "
            "take the model in GGUF form, if there is one",
            details={"architecture": kind[:64], "engine": "torch"},
        )


def read(folder: Path) -> Metadata:
    """Read a checkpoint's metadata and check that all its weights are there.

    Raises:
        ModelInvalid: A file is damaged or truncated.
        ModelIncompatible: Weights of a type that is not known here.
        OSError: A file is missing, or cannot be read.
    """
    config = _decoded(folder / CONFIG, _Config)
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    sizes = (config.hidden_size, heads, kv_heads, config.vocab_size, config.num_hidden_layers)
    if min(sizes) < 1 or max(sizes) >= 2**31 or config.num_hidden_layers > MAX_LAYERS:
        raise ModelInvalid(f"{CONFIG} has sizes that no model can have")
    parameters, kinds = 0, dict[str, int]()
    for path in files(folder):
        if path.suffix == ".safetensors":
            for tensor in _tensors(path):
                parameters += tensor.numbers
                kinds[tensor.dtype] = kinds.get(tensor.dtype, 0) + tensor.numbers
    head = config.head_dim or config.hidden_size // heads
    return Metadata(
        architecture=config.model_type[:64],
        name=folder.name,
        context_length=max(0, config.max_position_embeddings),
        block_count=config.num_hidden_layers,
        embedding_length=config.hidden_size,
        head_count=heads,
        kv_heads=(kv_heads,) * config.num_hidden_layers,
        key_length=head,
        value_length=head,
        quantization=max(kinds, key=lambda kind: kinds[kind], default="unknown"),
        vocab_size=config.vocab_size,
        max_token_bytes=MAX_TOKEN_BYTES,
        chat_template="",
        parameters=parameters,
        weights_bytes=parameters * COMPUTED_BYTES,
        split_count=0,
        feed_forward_length=max(0, config.intermediate_size),
        form="safetensors",
    )


def _tensors(path: Path) -> list[_Tensor]:
    """Return what a file holds; it must have a byte for each of them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise ModelInvalid(f"{path.name} is truncated or no safetensors file; fetch it again")
        raw = file.read(length)
    try:
        header = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        found = [msgspec.json.decode(each, type=_Tensor) for name, each in header.items() if name != "__metadata__"]
    except UNREADABLE:
        raise ModelInvalid(f"{path.name} is damaged: its header is not what such a file has") from None
    end = max((tensor.data_offsets[1] for tensor in found), default=0)
    if 8 + length + end > size:
        raise ModelInvalid(f"{path.name} is truncated; fetch it again")
    for tensor in found:
        if tensor.dtype not in NUMBER_BYTES:
            raise ModelIncompatible(f"the model holds numbers of the type {tensor.dtype[:32]}, which is not known here")
        begin, end = tensor.data_offsets
        possible = begin >= 0 and len(tensor.shape) <= MAX_DIMENSIONS and all(0 < n < 2**40 for n in tensor.shape)
        if not possible or end - begin != tensor.numbers * NUMBER_BYTES[tensor.dtype]:
            raise ModelInvalid(f"{path.name} is damaged: a tensor has no size that can be")
    return found


def _decoded(path: Path, kind: type[_Kind], *, called: str = "") -> _Kind:
    called = called or path.name
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise ModelInvalid(f"{called} is too large to be what it is called")
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except UNREADABLE as error:
        raise ModelInvalid(f"{called} is not what such a file has: {error}") from None
