"""How tools are spelled for engines that do not read all of JSON schema's words."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from msgspec import UNSET

from llorch.wire.conversation import Function, Tool
from roles.worker.inference.tools import spelled_out

NEVER: dict[str, Any] = {"not": {}}


def spelled(parameters: dict[str, Any]) -> dict[str, Any]:
    [tool] = spelled_out([Tool(Function("f", "d", parameters, strict=True))])
    assert (tool.function.name, tool.function.description, tool.function.strict) == ("f", "d", True)
    assert isinstance(tool.function.parameters, dict)
    return tool.function.parameters


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"items": True}, {"items": {}}),
        ({"items": False}, {"items": NEVER}),
        ({"items": [True, {"items": True}]}, {"items": [{}, {"items": {}}]}),
        ({"prefixItems": [True, False]}, {"prefixItems": [{}, NEVER]}),
        ({"properties": {"items": True, "b": False}}, {"properties": {"items": {}, "b": NEVER}}),
        ({"anyOf": [True, {"type": "null"}]}, {"anyOf": [{}, {"type": "null"}]}),
        ({"$defs": {"a": {"allOf": [True]}}}, {"$defs": {"a": {"allOf": [{}]}}}),
        ({"additionalProperties": {"items": True}}, {"additionalProperties": {"items": {}}}),
    ],
    ids=str,
)
def test_what_is_only_true_or_false_becomes_an_object_that_means_the_same(
    schema: dict[str, Any], told: dict[str, Any]
) -> None:
    assert spelled(schema) == told


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"additionalProperties": False},
        {"additionalProperties": True},
        {"const": True, "enum": [True], "default": {"items": True}, "examples": [True]},
        {"properties": 3, "anyOf": True, "x-own": {"items": True}},
    ],
    ids=str,
)
def test_everything_else_stays_as_it_came(schema: dict[str, Any]) -> None:
    assert spelled(schema) == schema


@pytest.mark.parametrize("value", [{}, {"a": 1}, {"b": 1}, {"c": []}, {"c": [1]}], ids=str)
def test_the_same_values_follow_it(value: object) -> None:
    schema = {"properties": {"a": True, "b": False, "c": {"items": False}}}

    told = spelled(schema)

    assert jsonschema_rs.is_valid(told, value) == jsonschema_rs.is_valid(schema, value)


def test_a_tool_without_parameters_stays_one() -> None:
    assert spelled_out([Tool(Function("f"))])[0].function.parameters is UNSET
