"""Tools in words that every engine reads: llama.cpp's takes no schema that is only true or false. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from llorch.wire.conversation import Tool
from llorch.wire.json_schema import LISTS, MAPS


def spelled_out(tools: Sequence[Tool]) -> list[Tool]:
    """Return tools whose parameters mean the same, in objects: `{}` for true, `{"not": {}}` for false."""
    return [_tool(tool) for tool in tools]


def _tool(tool: Tool) -> Tool:
    parameters = tool.function.parameters
    if not isinstance(parameters, dict):
        return tool
    return replace(tool, function=replace(tool.function, parameters=_schema(parameters)))


def _schema(schema: object) -> Any:  # noqa: ANN401 - a JSON schema, or what came in the place of one
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    if not isinstance(schema, dict):
        return schema
    return {name: _value(name, value) for name, value in schema.items()}


def _value(name: str, value: object) -> object:
    """Return what a keyword says; `additionalProperties` may be true or false everywhere."""
    if isinstance(value, list) and name in LISTS | {"items"}:
        return [_schema(inner) for inner in value]
    if isinstance(value, dict) and name in MAPS:
        return {key: _schema(inner) for key, inner in value.items()}
    if name == "items" or (name == "additionalProperties" and isinstance(value, dict)):
        return _schema(value)
    return value
