"""What a model file from before GGUF says of itself: GGML, GGMF, GGJT. Reads one binary file; starts nothing.

Such a file does not name its architecture, and each architecture has its own order of numbers at the beginning. So
each order is tried until the vocabulary behind it, and the name of the first tensor behind that, make sense.

Source of the layouts: the loaders of https://github.com/marella/ctransformers (`models/llms/*.cc`, and
`models/ggml/llama-ggml.cpp` for llama), the only program that still reads them all.

Strategy: a file may be hostile. Every length found in it is checked against the file's size before it is used.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from llorch.errors import ModelIncompatible, ModelInvalid

Architecture = Literal["dolly-v2", "gpt2", "gptj", "gptneox", "llama", "mpt", "replit", "starcoder"]
MAGICS: Mapping[bytes, str] = {b"lmgg": "GGML", b"fmgg": "GGMF", b"tjgg": "GGJT"}
"""How such a file begins: a number that its authors meant to be read the other way round."""
LLAMA_CONTEXT = 2048
"""What a llama of that time was trained for; its file does not say."""
MAX_TOKENS = 1 << 20
MAX_TOKEN_BYTES = 1 << 12
MAX_NAME_BYTES = 256
MAX_NUMBER = 1 << 20
MAX_LAYERS = 1024
MAX_TENSORS = 1 << 16
ALIGNMENT = 32
QUANTISED = 2
"""The first of the file types that is no plain numbers, and the version of quantisation that is still read."""
FTYPES_PER_VERSION = 1000
TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
}
"""Of each type of numbers its name, how many are stored together, and in how many bytes."""
_GIVEN_UP = "was given up in 2023, and nothing reads it any more; take a newer file of the model"
_MARKS: Mapping[bytes, Architecture] = {
    b"### End": "dolly-v2",
    b"<fim_prefix>": "starcoder",
    b"<fim-prefix>": "starcoder",
    b"<|assistant|>": "starcoder",
}
"""Tokens that tell these from gptneox and gpt2, whose files are otherwise the same."""
_RELATIVES: Mapping[Architecture, Architecture] = {"dolly-v2": "gptneox", "starcoder": "gpt2"}


@dataclass(frozen=True, slots=True)
class OldModel:
    """A model as such a file describes it; lengths in tokens or numbers, `kv_width` that of a layer's keys.

    `form` is that of the file, such as `GGJT v3`.
    """

    form: str
    architecture: Architecture
    vocab_size: int
    context_length: int
    width: int
    heads: int
    layers: int
    kv_width: int
    quantization: str
    parameters: int
    weights_bytes: int
    max_token_bytes: int

    @property
    def float_cache(self) -> bool:
        """Whether a number of the KV cache takes four bytes, and not two."""
        return self.architecture in {"gpt2", "starcoder"}


@dataclass(frozen=True, slots=True)
class _Layout:
    """The numbers at the beginning, `.` for one that does not matter; how tokens follow; how tensors are called."""

    architecture: Architecture
    fields: Sequence[str]
    tensors: Sequence[bytes]
    counted: bool = False
    scored: bool = False


_LLAMA = _Layout(
    "llama",
    "vocab width . heads layers . ftype".split(),
    (b"tok_embeddings.", b"norm.", b"output.", b"layers."),
    scored=True,
)
_GPT = "vocab context width heads layers".split()
_MOSAIC = "width context heads layers vocab".split()
_MPT_TENSORS = (b"transformer.wte.", b"transformer.blocks.", b"transformer.norm_f.")
_LAYOUTS = (
    _Layout("gpt2", [*_GPT, "ftype"], (b"model/",), counted=True),
    _Layout("gptj", [*_GPT, ".", "ftype"], (b"transformer.", b"lm_head."), counted=True),
    _Layout("gptneox", [*_GPT, ".", ".", "ftype"], (b"gpt_neox.", b"embed_out.")),
    _Layout("mpt", [*_MOSAIC, ".", ".", "ftype"], _MPT_TENSORS),
    _Layout("replit", [*_MOSAIC, "ftype"], _MPT_TENSORS, scored=True),
)


@dataclass(slots=True)
class _Measured:
    """What all tensors are together; `kv_width` of a llama's keys."""

    numbers: dict[int, int] = field(default_factory=dict)
    size_bytes: int = 0
    kv_width: int = 0


class _Other(Exception):
    """The file is not in this layout, or ends too early for it."""


def is_old(magic: bytes) -> bool:
    """Tell by a file's first four bytes whether it is in one of these forms."""
    return magic[:4] in MAGICS


def read(file: BinaryIO, size: int) -> OldModel:
    """Read what a file says of its model, and check that all its tensors are there.

    Args:
        file: Opened at its start.
        size: Its length in bytes.

    Raises:
        ModelInvalid: It is none of these forms, or damaged, or shorter than its contents need.
        ModelIncompatible: No program reads it any more.
    """
    source = _Source(file, size)
    try:
        form = MAGICS.get(source.take(4))
        version = source.number() if form in {"GGMF", "GGJT"} else 0
    except _Other:
        form = None
    if form is None:
        raise ModelInvalid("this is no model file in one of the old GGML forms")
    name = f"{form} v{version}" if version else form
    if version and (form, version) not in {("GGMF", 1), ("GGJT", 1), ("GGJT", 2), ("GGJT", 3)}:
        raise ModelIncompatible(f"the model file is {name}, which is not known here")
    for layout in (_LLAMA,) if version else _LAYOUTS:
        source.go(8 if version else 4)
        try:
            found, architecture = _beginning(source, layout)
        except _Other:
            continue
        _check_ftype(name, layout, found["ftype"])
        return _model(name, architecture, found, _measure(source, aligned=form == "GGJT"))
    raise ModelInvalid(
        f"the model file begins as {form}, and then is damaged or of an unknown architecture; known are "
        f"{', '.join(['llama', *(layout.architecture for layout in _LAYOUTS)])}, dolly-v2, starcoder"
    )


def _beginning(source: _Source, layout: _Layout) -> tuple[dict[str, int], Architecture]:
    """Read the numbers and the vocabulary; return the numbers, with the length of the longest token, and what it is."""
    found = dict(zip(layout.fields, source.numbers(len(layout.fields)), strict=True))
    sizes = [found[key] for key in ("vocab", "width", "heads", "layers")]
    if not all(0 < size <= MAX_NUMBER for size in sizes) or found["layers"] > MAX_LAYERS:
        raise _Other
    if found["width"] % found["heads"] or not 0 < found.get("context", 1) <= MAX_NUMBER:
        raise _Other
    if layout.counted and source.number() != found["vocab"]:
        raise _Other
    found["longest"], architecture = 0, layout.architecture
    for _ in range(found["vocab"]):
        length = source.number()
        if length > MAX_TOKEN_BYTES:
            raise _Other
        token = source.take(length)
        found["longest"] = max(found["longest"], length)
        if token in _MARKS and _RELATIVES[_MARKS[token]] == layout.architecture:
            architecture = _MARKS[token]
        if layout.scored:
            source.number()
    here = source.position
    _, _, name = source.tensor()
    source.go(here)
    if not name.startswith(tuple(layout.tensors)):
        raise _Other
    return found, architecture


def _check_ftype(form: str, layout: _Layout, ftype: int) -> None:
    """Refuse what is quantised in a way that has changed since."""
    if layout is _LLAMA:
        versions = {"GGJT v3": 3, "GGJT v2": 2}.get(form, 1)
        plain = ftype < QUANTISED
        if not plain and (versions == 1 or (versions == 2 and ftype in {2, 3, 7})):
            raise ModelIncompatible(f"the model is quantised as {form} files were, which {_GIVEN_UP}")
    elif ftype % FTYPES_PER_VERSION >= QUANTISED > ftype // FTYPES_PER_VERSION:
        raise ModelIncompatible(f"the model is quantised in the first way that {form} files were, which {_GIVEN_UP}")


def _measure(source: _Source, *, aligned: bool) -> _Measured:
    """Go through all tensors."""
    found = _Measured()
    try:
        for name, kind, shape in _tensors(source):
            if kind not in TYPES:
                raise ModelIncompatible(f"the model has numbers of the type {kind}, which {_GIVEN_UP}")
            _, block, block_bytes = TYPES[kind]
            numbers = math.prod(shape)
            if numbers % block:
                raise _Other
            if aligned:
                source.go(-(-source.position // ALIGNMENT) * ALIGNMENT)
            length = numbers // block * block_bytes
            source.go(source.position + length)
            found.numbers[kind] = found.numbers.get(kind, 0) + numbers
            found.size_bytes += length
            if name == b"layers.0.attention.wk.weight":
                found.kv_width = shape[-1]
    except _Other:
        raise ModelInvalid(
            "the model file is truncated or damaged: its tensors are not whole; fetch it again"
        ) from None
    return found


def _tensors(source: _Source) -> Iterator[tuple[bytes, int, Sequence[int]]]:
    count = 0
    while source.position < source.size:
        count += 1
        if count > MAX_TENSORS:
            raise _Other
        kind, shape, name = source.tensor()
        yield name, kind, shape


def _model(form: str, architecture: Architecture, found: dict[str, int], tensors: _Measured) -> OldModel:
    width = found["width"]
    kind = max(tensors.numbers, key=lambda kind: tensors.numbers[kind])
    return OldModel(
        form=form,
        architecture=architecture,
        vocab_size=found["vocab"],
        context_length=found.get("context", LLAMA_CONTEXT),
        width=width,
        heads=found["heads"],
        layers=found["layers"],
        kv_width=min(tensors.kv_width or width, width),
        quantization=TYPES[kind][0],
        parameters=sum(tensors.numbers.values()),
        weights_bytes=tensors.size_bytes,
        max_token_bytes=found["longest"],
    )


class _Source:
    """A file, and a position in it that never goes past its end."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size
        self.position = 0

    def go(self, position: int) -> None:
        """Read from there on."""
        if position > self.size:
            raise _Other
        self.position = self._file.seek(position)

    def take(self, length: int) -> bytes:
        """Read so many bytes."""
        found = self._file.read(length) if length <= self.size - self.position else b""
        if len(found) < length:
            raise _Other
        self.position += length
        return found

    def numbers(self, count: int) -> tuple[int, ...]:
        """Read unsigned numbers of 32 bits."""
        return struct.unpack(f"<{count}I", self.take(4 * count))

    def number(self) -> int:
        """Read one of them."""
        return self.numbers(1)[0]

    def tensor(self) -> tuple[int, tuple[int, ...], bytes]:
        """Read what stands before a tensor's numbers: their type, its shape, its name."""
        dimensions, length, kind = self.numbers(3)
        if not 1 <= dimensions <= 2 or not 0 < length <= MAX_NAME_BYTES:
            raise _Other
        shape = self.numbers(dimensions)
        if not all(0 < size <= MAX_NUMBER for size in shape):
            raise _Other
        return kind, shape, self.take(length)
