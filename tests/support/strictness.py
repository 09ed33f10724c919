"""Holds an answer against the type that a vendor's library has for it: every field is declared, none is missing. Pure.

The libraries themselves are lenient: they build their types without validation, and keep or drop what they do not know.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError


def problems(kind: object, body: str) -> list[str]:
    """Return what is wrong with an answer, by place: what its type requires and it has not, or has and may not have.

    Args:
        kind: A type of a library; of a union, the member whose `type` the answer tells is meant.
        body: The answer, or the data of an event, as JSON.
    """
    raw = json.loads(body)
    chosen = _member(kind, raw["type"]) if typing.get_origin(kind) is not None else kind
    try:
        parsed = _adapter(chosen).validate_json(body, strict=True)
    except ValidationError as error:
        return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return [f"{place}: not declared" for place in undeclared(parsed, raw)]


def undeclared(parsed: object, raw: object, place: str = "") -> Iterator[str]:
    """Yield the places of what is in an answer and not in the type that it was parsed to."""
    if isinstance(parsed, BaseModel) and isinstance(raw, dict):
        names = {each.alias or name: name for name, each in type(parsed).model_fields.items()}
        for key, value in raw.items():
            at = f"{place}.{key}" if place else key
            if key in names:
                yield from undeclared(getattr(parsed, names[key]), value, at)
            else:
                yield at
    elif isinstance(parsed, dict) and isinstance(raw, dict):
        for key, value in raw.items():
            yield from undeclared(parsed[key], value, f"{place}.{key}")
    elif isinstance(parsed, list | tuple) and isinstance(raw, list):
        for inner, value in zip(parsed, raw, strict=True):
            yield from undeclared(inner, value, f"{place}[]")


def _member(union: object, told: str) -> object:
    """Return the member of a union whose `type` is *told*."""
    members = typing.get_args(union)
    if typing.get_origin(union) is typing.Annotated:
        return _member(members[0], told)
    found = [each for each in members if told in typing.get_args(each.model_fields["type"].annotation)]
    assert len(found) == 1, f"{told} is not one type of {union}"
    return found[0]


@cache
def _adapter(kind: object) -> TypeAdapter[Any]:
    return TypeAdapter(kind)  # type: ignore[arg-type]  # a type, or an alias of a union
