"""A first look at a model file, before any engine is started: is it there, is it GGUF, what does it say of itself.

Reads the beginning of one file and nothing else. Source of the format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from llorch import errors, ggml

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
VOCABULARY = "tokenizer."
MAX_KEYS = 65_536
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32
MAX_TOKENS = 1 << 24
MAX_STRING_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """What the file says of itself; `context_length` and `pooling` 0 when it does not."""

    architecture: str
    context_length: int
    pooling: int = 0


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model; empty where the file has none, or another form than lists of strings and numbers."""

    kind: str = ""
    names: list[str] = field(default_factory=list)
    types: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a tensor's numbers are, how many, and where they begin, counted from the first tensor's."""

    kind: int
    numbers: int
    offset: int


@dataclass(slots=True)
class Contents:
    """All that a file says but its vocabulary: single values by their keys, the names of lists, and the tensors.

    `data_start` is where the first tensor's numbers are.
    """

    texts: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    lists: set[str] = field(default_factory=set)
    tensors: list[Tensor] = field(default_factory=list)
    data_start: int = 0


def read_header(path: Path) -> Header:
    """Look into a model file.

    Raises:
        ModelNotFound: No such file, or not a file, or not readable.
        ModelInvalid: Not GGUF, or cut off.
    """
    with _translated(path), path.open("rb") as file:
        return _header(file, path.name)


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a model's tokens; raises as `read_header` does."""
    with _translated(path), path.open("rb") as file:
        return _vocabulary(file, path.name)


def read_contents(path: Path) -> Contents:
    """Read what a file holds; raises as `read_header` does."""
    with _translated(path), path.open("rb") as file:
        return _contents(file, path.name)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise errors.ModelNotFound(f"there is no model file at {path}") from None
    except IsADirectoryError:
        raise errors.ModelNotFound(f"{path} is a folder; give the path of one GGUF file") from None
    except OSError as error:
        raise errors.ModelNotFound(f"the model file {path} cannot be read: {error.strerror}") from None
    except (EOFError, KeyError, OverflowError, ValueError, struct.error):
        raise errors.ModelInvalid(
            f"{path.name} is truncated or damaged: its header is not whole; fetch it again"
        ) from None


def _header(file: BinaryIO, name: str) -> Header:
    """Read what stands before the vocabulary, which is long; where it is somewhere else, read on."""
    architecture, contexts, poolings = "", dict[str, int](), dict[str, int]()
    for _ in range(_keys(file, name)):
        key = _string(file)
        (kind,) = _unpack(file, "I")
        if key == "general.architecture" and kind == STRING:
            architecture = _string(file)
        elif key.endswith(".context_length") and kind in SCALARS:
            contexts[key.removesuffix(".context_length")] = int(_unpack(file, SCALARS[kind])[0])
        elif key.endswith(".pooling_type") and kind in SCALARS:
            poolings[key.removesuffix(".pooling_type")] = int(_unpack(file, SCALARS[kind])[0])
        elif key.startswith(VOCABULARY) and architecture in contexts:
            break
        else:
            _skip(file, kind)
    if not architecture:
        raise errors.ModelInvalid(f"{name} does not say what architecture it is; it is not a language model")
    return Header(architecture, contexts.get(architecture, 0), poolings.get(architecture, 0))


def _vocabulary(file: BinaryIO, name: str) -> Vocabulary:
    vocabulary = Vocabulary()
    for _ in range(_keys(file, name)):
        key = _string(file)
        (kind,) = _unpack(file, "I")
        if key == "tokenizer.ggml.model" and kind == STRING:
            vocabulary = replace(vocabulary, kind=_string(file))
        elif key in {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type"} and kind == ARRAY:
            inner, count = _unpack(file, "IQ")
            if count > MAX_TOKENS:
                raise ValueError
            if inner == STRING:
                vocabulary = replace(vocabulary, names=[_string(file) for _ in range(count)])
            elif inner in SCALARS:
                vocabulary = replace(vocabulary, types=[int(n) for n in _unpack(file, f"{count}{SCALARS[inner]}")])
            else:
                break
        else:
            _skip(file, kind)
        if vocabulary.kind and vocabulary.names and vocabulary.types:
            break
    return vocabulary


def _contents(file: BinaryIO, name: str) -> Contents:
    found = Contents()
    tensors, keys = _counts(file, name)
    for _ in range(keys):
        key = _string(file)
        (kind,) = _unpack(file, "I")
        if kind == STRING:
            found.texts[key] = _string(file)
        elif kind in SCALARS:
            found.numbers[key] = _unpack(file, SCALARS[kind])[0]
        else:
            found.lists.add(key)
            _skip(file, kind)
    for _ in range(tensors):
        _string(file)
        (dimensions,) = _unpack(file, "I")
        shape = _unpack(file, f"{min(dimensions, MAX_DIMENSIONS + 1)}Q")
        kind, offset = _unpack(file, "IQ")
        if dimensions > MAX_DIMENSIONS:
            raise ValueError
        found.tensors.append(Tensor(kind, math.prod(shape), offset))
    alignment = int(found.numbers.get("general.alignment", DEFAULT_ALIGNMENT)) or DEFAULT_ALIGNMENT
    if alignment < 0:
        raise ValueError
    found.data_start = -(-file.tell() // alignment) * alignment
    return found


def _keys(file: BinaryIO, name: str) -> int:
    """Read up to the first key; return how many there are."""
    return _counts(file, name)[1]


def _counts(file: BinaryIO, name: str) -> tuple[int, int]:
    """Read up to the first key; return how many tensors and keys there are."""
    magic = file.read(4)
    if ggml.is_old(magic):
        raise errors.ModelInvalid(f"{name} is in a form from before GGUF, which only the engine ctransformers reads")
    if magic != MAGIC:
        raise errors.ModelInvalid(f"{name} is not a GGUF file; give a model in GGUF form")
    (version,) = _unpack(file, "I")
    if version not in VERSIONS:
        raise errors.ModelInvalid(f"{name} is GGUF version {version}; versions 2 and 3 can be read")
    tensors, keys = _unpack(file, "QQ")
    if keys > MAX_KEYS or tensors > MAX_TENSORS:
        raise ValueError
    return int(tensors), int(keys)


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == STRING:
        _string(file)
    elif kind == ARRAY:
        inner, count = _unpack(file, "IQ")
        if inner in SCALARS:
            file.seek(count * struct.calcsize("<" + SCALARS[inner]), 1)
        else:
            for _ in range(count):
                _skip(file, inner)
    else:
        _unpack(file, SCALARS[kind])


def _string(file: BinaryIO) -> str:
    (length,) = _unpack(file, "Q")
    if length > MAX_STRING_BYTES:
        file.seek(length, 1)
        return ""
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data.decode("utf-8", "replace")


def _unpack(file: BinaryIO, form: str) -> tuple[int, ...]:
    size = struct.calcsize("<" + form)
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return struct.unpack("<" + form, data)
