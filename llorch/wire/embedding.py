"""What embeddings and reranking are asked for with, and the lines that their token events hold. No I/O.

A job of these kinds has one token event an input: index `i`, and in `t` one line, the vector as base64 of little-endian
32-bit floats or the score as a JSON number. So what a job has put out is a text like any other, line by line.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import UNSET, Meta

from llorch.errors import EngineFailed
from llorch.wire.codec import UNREADABLE, FieldProblem

Capability = Literal["text-gen", "embedding", "rerank"]
"""What a model can do, and what a job is for."""
MAX_INPUTS = 2048
NOUNS: Mapping[Capability, str] = {"text-gen": "text", "embedding": "embeddings", "rerank": "reranking"}
SHAPES: Mapping[str, Capability] = {
    "prompt": "text-gen",
    "messages": "text-gen",
    "input": "embedding",
    "rerank": "rerank",
}
"""The fields of which a job has exactly one, and what each is for."""
POOLING_HINT = '; for embeddings, set pooling = "last" (or "mean", "cls") in its [models] section of the configuration'
ONE_SHAPE: Mapping[str, object] = {"oneOf": [{"required": [field]} for field in SHAPES]}

Tokens = Annotated[list[Annotated[int, Meta(ge=0, le=2**31 - 1)]], Meta(min_length=1, max_length=2**20)]
Input = Annotated[str, Meta(min_length=1)] | Tokens
Inputs = Annotated[
    list[Input], Meta(min_length=1, max_length=MAX_INPUTS, description="Texts, or the model's own token ids, to embed")
]
Truncate = Annotated[bool, Meta(description="Cut off what the context has no room for, instead of refusing it")]


class Rerank(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Documents to be scored by how much they have to do with a query."""

    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str], Meta(min_length=1, max_length=MAX_INPUTS)]


class Shaped(Protocol):
    """What may have any of the fields in `SHAPES`."""

    @property
    def prompt(self) -> object:
        """A text to go on with."""

    @property
    def messages(self) -> object:
        """A conversation to go on with."""

    @property
    def input(self) -> object:
        """What to embed."""

    @property
    def rerank(self) -> object:
        """What to score."""

    @property
    def truncate(self) -> bool:
        """Whether to cut off what is too long."""


def kind_of(task: Shaped) -> Capability:
    """Return what a job is for."""
    if task.input is not UNSET:
        return "embedding"
    return "text-gen" if task.rerank is UNSET else "rerank"


def unable(task: Shaped, can: Collection[str]) -> list[FieldProblem]:
    """Return what is wrong with a job of a model that *can* do only so much."""
    if kind_of(task) in can:
        return []
    field = next((field for field in SHAPES if getattr(task, field) is not UNSET), "prompt")
    able = " and ".join(noun for kind, noun in NOUNS.items() if kind in can)
    hint = POOLING_HINT if kind_of(task) == "embedding" and "text-gen" in can else ""
    return [FieldProblem(field, f"the model cannot do that: it is for {able or 'something else'}{hint}")]


def shape_problems(task: Shaped, changed: Sequence[str]) -> list[FieldProblem]:
    """Return what is wrong between what a job is for and its other fields.

    Args:
        task: The job.
        changed: The fields that say how text is generated and are not as they are by default.
    """
    first, *others = SHAPES
    problems: list[FieldProblem] = []
    if sum(getattr(task, field) is not UNSET for field in SHAPES) != 1:
        listed = f"{', '.join([first, *others[:-1]])} and {others[-1]}"
        problems.append(FieldProblem(first, f"exactly one of {listed} is required", tuple(others)))
    kind = kind_of(task)
    if kind != "text-gen":
        problems += [FieldProblem(field, f"has no meaning for {NOUNS[kind]}") for field in changed]
    elif task.truncate:
        problems.append(FieldProblem("truncate", "only for input and rerank"))
    return problems


def vector_line(vector: Sequence[float]) -> str:
    """Return a vector as its token event holds it.

    Raises:
        EngineFailed: Not all of it are numbers, which JSON has no words for, or one is too large for 32 bits.
    """
    try:
        data = struct.pack(f"<{len(vector)}f", *vector)
    except OverflowError:
        data = b""
    if not data or not math.isfinite(sum(vector)):
        raise EngineFailed("the engine's vector has something in it that is not a number")
    return base64.b64encode(data).decode() + "\n"


def read_vector(line: str) -> list[float]:
    """Return the vector of a line; one without its end will do.

    Raises:
        EngineFailed: It holds none.
    """
    try:
        data = binascii.a2b_base64(line.removesuffix("\n"), strict_mode=True)
    except ValueError:
        data = b""
    if not data or len(data) % 4:
        raise EngineFailed("a line of the output is not a vector")
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def score_line(score: float) -> str:
    """Return a score as its token event holds it; raises as `vector_line` does."""
    if not math.isfinite(score):
        raise EngineFailed("the engine's score is not a number")
    return json.dumps(score) + "\n"


def read_score(line: str) -> float:
    """Return the score of a line.

    Raises:
        EngineFailed: It holds none.
    """
    try:
        return msgspec.json.decode(line, type=float)
    except UNREADABLE:
        raise EngineFailed("a line of the output is not a score") from None


LINES: Mapping[Capability, Callable[[str], object]] = {"embedding": read_vector, "rerank": read_score}
"""What reads a line of each kind of job whose output is lines."""
