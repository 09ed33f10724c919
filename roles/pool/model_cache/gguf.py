"""What a GGUF file says about itself, read without loading it. Reads one binary file; starts nothing.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian. Block sizes are
those of `ggml_type` in the same repository.

Strategy: a file may be hostile. Every length and count in it is checked before it is used, and only the few values
that are needed are decoded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal

from llorch.abilities import ENCODERS, pooling_of
from llorch.errors import ModelInvalid
from llorch.wire.pools import ModelKind
from roles.pool.model_cache import template_text, vocabulary
from roles.pool.model_cache.header import Header, refuse
from roles.pool.model_cache.quantisation import FILE_TYPES
from roles.pool.model_cache.tensors import measure

MAX_PAIRS = 65_536
MAX_TENSORS = 1_000_000
MAX_LAYERS = 65_536
MAX_TEMPLATE_BYTES = 1024 * 1024
MAX_NAME_BYTES = 256
KV_BYTES = 2
"""Bytes of one number in the KV cache (f16)."""

WINDOWED: Mapping[str, int] = {"cohere2": 4, "gemma2": 2, "gemma3": 6, "gpt-oss": 2}
"""Architectures whose files need not say it: each n-th layer has no sliding window (`set_swa_pattern` of llama.cpp)."""

_STRING, _ARRAY = 8, 9
_SCALARS: Mapping[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<B"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
KINDS: Mapping[str, ModelKind] = {"adapter": "adapter", "mmproj": "projector"}
"""What `general.type` says of files that are no model by themselves."""
_PROJECTOR = "clip"
"""The architecture of projectors, older ones of which say no type."""
_ARCHITECTURE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
_TOKENS = "tokenizer.ggml.tokens"
_TOKEN_TYPES = "tokenizer.ggml.token_type"
_TOOL_TEMPLATE = "tokenizer.chat_template.tool_use"
"""One that some models have beside the other, for conversations with tools."""
_KEPT_STRINGS: Mapping[str, int] = {
    "general.architecture": MAX_NAME_BYTES,
    "general.name": MAX_NAME_BYTES,
    "general.type": MAX_NAME_BYTES,
    "adapter.type": MAX_NAME_BYTES,
    "tokenizer.ggml.model": MAX_NAME_BYTES,
    "tokenizer.chat_template": MAX_TEMPLATE_BYTES,
    _TOOL_TEMPLATE: MAX_TEMPLATE_BYTES,
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """A model, as its file describes it. A length is 0 where the file does not say.

    `kv_heads` has one entry a layer; `key_length` and `value_length` are those of one head; `max_token_bytes` is the
    length of the longest text that one token stands for; `split_count` is above 1 for a part of a model. `sliding` has
    one entry a layer: whether it looks back no further than `sliding_window`; empty when none does. `adapter` is what
    an adapter is, such as `lora`. Of a projector the lengths are those of its image encoder, and `patches` is how many
    parts it cuts an image into. `pooling` makes one vector of a text's, and is 0 for a model that generates text.
    `form` is that of the model's files; `kv_number_bytes` is what a number takes in the KV cache unless it is said.
    `template_knows` is what the chat template can tell the model of, see `template_text.knows`.
    """

    architecture: str
    name: str
    context_length: int
    block_count: int
    embedding_length: int
    head_count: int
    kv_heads: tuple[int, ...]
    key_length: int
    value_length: int
    quantization: str
    vocab_size: int
    max_token_bytes: int
    chat_template: str
    parameters: int
    weights_bytes: int
    split_count: int
    feed_forward_length: int = 0
    sliding_window: int = 0
    sliding: tuple[bool, ...] = ()
    kind: ModelKind = "model"
    adapter: str = ""
    patches: int = 0
    pooling: int = 0
    form: Literal["gguf", "ggml", "safetensors"] = "gguf"
    kv_number_bytes: int = KV_BYTES
    template_knows: tuple[str, ...] = ()

    @property
    def is_encoder(self) -> bool:
        """Whether it reads a text as a whole, and has no KV cache."""
        return self.architecture in ENCODERS

    @property
    def kv_cell_bytes(self) -> int:
        """What a token takes in the KV cache: for each layer and key/value head one key and one value."""
        if self.is_encoder:
            return 0
        return sum(self.kv_heads) * (self.key_length + self.value_length) * self.kv_number_bytes


@dataclass(frozen=True, slots=True)
class Tokens:
    """The vocabulary of a model: its kind, the ids of the beginning and the end of a text, and its tokens as stored."""

    kind: str
    ends: tuple[int, ...]
    count: int
    stored: bytes


@dataclass(frozen=True, slots=True)
class _Array:
    """Where an array lies: its elements are decoded later, if at all."""

    kind: int
    count: int
    start: int


_Value = int | float | str | _Array


def read(file: BinaryIO, size: int) -> Metadata:
    """Read a model's metadata and check that all its tensors are there.

    Args:
        file: Opened at its start.
        size: Its length in bytes.

    Raises:
        ModelInvalid: Not a GGUF file of a known version, or shorter than its contents need.
        ModelIncompatible: A tensor has a type that is not known here.
    """
    header = Header(file, size)
    tensor_count, pair_count = _preamble(header)
    values: dict[str, _Value] = {}
    for _ in range(pair_count):
        key, value = _pair(header)
        if value is not None:
            values[key] = value
    parameters, weights_bytes = measure(header, tensor_count, alignment=_alignment(values))
    return _metadata(header, values, parameters, weights_bytes)


def read_tokens(file: BinaryIO, size: int) -> Tokens:
    """Read what two models must have in common for one to draft for the other; raises as `read` does."""
    header = Header(file, size)
    values: dict[str, _Value] = {}
    _, pair_count = _preamble(header)
    for _ in range(pair_count):
        key, value = _pair(header)
        if value is not None:
            values[key] = value
    tokens = values.get(_TOKENS)
    if not isinstance(tokens, _Array) or tokens.kind != _STRING:
        return Tokens("", (), 0, b"")
    after = Header(file, size)
    after.data, after.position = header.data, tokens.start
    after.skip_strings(tokens.count)
    return Tokens(
        _text(values, "tokenizer.ggml.model"),
        tuple(_integer(values, f"tokenizer.ggml.{name}_token_id", missing=-1) for name in ("bos", "eos")),
        tokens.count,
        bytes(header.data[tokens.start : after.position]),
    )


def _preamble(header: Header) -> tuple[int, int]:
    header.fill(min(4, header.size))
    if header.data[:4] != b"GGUF":
        raise ModelInvalid("this is not a GGUF model file: it does not begin with GGUF")
    header.position = 4
    version = header.u32()
    if version & 0xFFFF == 0:
        refuse("it is written for big-endian machines")
    if version not in {2, 3}:
        refuse(f"its version is {version}; known are 2 and 3")
    tensors, pairs = header.u64(), header.u64()
    if tensors > MAX_TENSORS or pairs > MAX_PAIRS:
        refuse(f"it claims {tensors} tensors and {pairs} metadata entries")
    return tensors, pairs


def _pair(header: Header) -> tuple[str, _Value | None]:
    """Read a key and its value; None for a value that nobody needs."""
    key = header.text(65_535).decode("utf-8", "replace")
    kind = header.u32()
    if form := _SCALARS.get(kind):
        return key, header.number(form)
    if kind == _STRING:
        return key, _string(header, key)
    if kind != _ARRAY:
        refuse(f"a metadata entry has the unknown type {kind}")
    element, count = header.u32(), header.u64()
    found = _Array(element, count, header.position)
    if element == _STRING:
        header.skip_strings(count)
    elif form := _SCALARS.get(element):
        header.skip_numbers(count, form.size)
    else:
        refuse(f"a metadata array has elements of the type {element}")
    return key, found


def _string(header: Header, key: str) -> str | None:
    limit = _KEPT_STRINGS.get(key)
    if limit is not None:
        return header.text(limit).decode("utf-8", "replace")
    header.skip(header.u64())
    return None


def _alignment(values: Mapping[str, _Value]) -> int:
    alignment = _integer(values, "general.alignment") or 32
    if alignment % 8 or alignment > 2**20:
        refuse(f"its alignment is {alignment}")
    return alignment


def _metadata(header: Header, values: Mapping[str, _Value], parameters: int, weights_bytes: int) -> Metadata:
    architecture = _text(values, "general.architecture")
    later_part = not architecture and _integer(values, "split.no") > 0  # only the first part describes the model
    if not _ARCHITECTURE.match(architecture) and not later_part:
        refuse("it does not name its architecture")
    kind = KINDS.get(_text(values, "general.type"), "projector" if architecture == _PROJECTOR else "model")
    architecture_of = architecture
    if kind == "projector":
        architecture = f"{architecture}.vision"
    layers = _integer(values, f"{architecture}.block_count")
    if layers > MAX_LAYERS:
        refuse(f"it claims {layers} layers")
    embedding = _integer(values, f"{architecture}.embedding_length")
    heads = _per_layer(header, values.get(f"{architecture}.attention.head_count"), layers)
    kv_heads = _per_layer(header, values.get(f"{architecture}.attention.head_count_kv"), layers) or heads
    head_count = max(heads, default=0)
    head_size = embedding // head_count if head_count else 0
    tokens = values.get(_TOKENS)
    token_count = tokens.count if isinstance(tokens, _Array) else 0
    file_type = _integer(values, "general.file_type", missing=-1)
    patch = _integer(values, f"{architecture}.patch_size")
    return Metadata(
        architecture=architecture_of,
        name=_text(values, "general.name"),
        context_length=_integer(values, f"{architecture}.context_length"),
        block_count=layers,
        embedding_length=embedding,
        head_count=head_count,
        kv_heads=kv_heads,
        key_length=_integer(values, f"{architecture}.attention.key_length") or head_size,
        value_length=_integer(values, f"{architecture}.attention.value_length") or head_size,
        quantization=FILE_TYPES.get(file_type, "unknown"),
        vocab_size=token_count or _integer(values, f"{architecture}.vocab_size"),
        max_token_bytes=_longest_token(header, values),
        chat_template=_text(values, "tokenizer.chat_template"),
        parameters=parameters,
        weights_bytes=weights_bytes,
        split_count=_integer(values, "split.count"),
        feed_forward_length=_feed_forward(header, values, architecture, layers),
        sliding_window=_integer(values, f"{architecture}.attention.sliding_window"),
        sliding=_sliding(header, values, architecture, layers),
        kind=kind,
        adapter=_text(values, "adapter.type"),
        patches=(_integer(values, f"{architecture}.image_size") // patch) ** 2 if patch else 0,
        pooling=pooling_of(architecture, _integer(values, f"{architecture}.pooling_type")),
        template_knows=template_text.knows(_text(values, "tokenizer.chat_template") + _text(values, _TOOL_TEMPLATE)),
    )


def _feed_forward(header: Header, values: Mapping[str, _Value], architecture: str, layers: int) -> int:
    """Return the widest inner width of a layer; of a mixture of experts, that of those that work at once."""
    dense = max(_per_layer(header, values.get(f"{architecture}.feed_forward_length"), layers), default=0)
    expert = _integer(values, f"{architecture}.expert_feed_forward_length")
    return max(dense, expert * _integer(values, f"{architecture}.expert_used_count"))


def _sliding(header: Header, values: Mapping[str, _Value], architecture: str, layers: int) -> tuple[bool, ...]:
    """Return which layers have a sliding window: as the file says for each, or every one but each n-th."""
    if not _integer(values, f"{architecture}.attention.sliding_window"):
        return ()
    pattern = values.get(f"{architecture}.attention.sliding_window_pattern")
    if isinstance(pattern, _Array):
        told = _per_layer(header, pattern, layers)
        return tuple(value != 0 for value in told) if len(told) == layers else ()
    period = _whole(pattern) if isinstance(pattern, int | float) else WINDOWED.get(architecture, 0)
    return tuple(period > 1 and layer % period < period - 1 for layer in range(layers))


def _longest_token(header: Header, values: Mapping[str, _Value]) -> int:
    tokens, types = values.get(_TOKENS), values.get(_TOKEN_TYPES)
    if not isinstance(tokens, _Array) or tokens.kind != _STRING:
        return 0
    typed = isinstance(types, _Array) and types.kind in {4, 5} and types.count == tokens.count
    return vocabulary.longest_token(
        header.data,
        tokens.start,
        tokens.count,
        byte_level=_text(values, "tokenizer.ggml.model") == "gpt2",
        types=types.start if typed and isinstance(types, _Array) else None,
    )


def _per_layer(header: Header, value: _Value | None, layers: int) -> tuple[int, ...]:
    if isinstance(value, _Array):
        form = _SCALARS.get(value.kind)
        if form is None or value.count > MAX_LAYERS:
            refuse("its list of attention heads is not one number a layer")
        numbers = struct.iter_unpack(form.format, header.data[value.start : value.start + value.count * form.size])
        return tuple(_whole(number) for (number,) in numbers)
    return (_whole(value),) * layers if isinstance(value, int | float) else ()


def _integer(values: Mapping[str, _Value], key: str, *, missing: int = 0) -> int:
    value = values.get(key)
    return _whole(value) if isinstance(value, int | float) else missing


def _whole(value: float) -> int:
    if not 0 <= value < 2**40 or value != int(value):
        refuse(f"a length in its metadata is {value}")
    return int(value)


def _text(values: Mapping[str, _Value], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""
