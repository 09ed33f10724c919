"""Which schemas are taken, and what is said about the others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.wire.json_schema import KNOWN, MAX_ITEMS, enforceable, schema_problems

NAMES = st.sampled_from(sorted(KNOWN | {"not", "uniqueItems", "if"}))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**7) | st.sampled_from(["string", "^a{3}$", "(", "date", "#", "#/x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": ["string", "null"], "title": "x", "examples": [1]},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"items": False}}},
        {"anyOf": [{"const": 1}, {"enum": ["a"]}], "description": "y"},
        {"$ref": "#"},
        {"multipleOf": 0.25, "allOf": [{"multipleOf": 1000}, {"multipleOf": 0.000001}]},
        {"prefixItems": [{"type": "integer"}], "minItems": 1, "maxItems": MAX_ITEMS},
        {"pattern": r"^(?:a|b){2,9}\d\.$", "minLength": 0, "maxLength": 10_000},
    ],
    ids=str,
)
def test_what_can_be_enforced_is_taken_and_kept_but_for_annotations(schema: object) -> None:
    assert schema_problems(schema, "s") == []
    if isinstance(schema, dict):
        dropped = {"title", "examples", "description"}
        assert enforceable(schema) == {name: value for name, value in schema.items() if name not in dropped}


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (5, "s"),
        ({"not": {}}, "s.not"),
        ({"type": "text"}, "s.type"),
        ({"type": []}, "s.type"),
        ({"properties": []}, "s.properties"),
        ({"properties": {"a": {"enum": []}}}, "s.properties.a.enum"),
        ({"anyOf": []}, "s.anyOf"),
        ({"anyOf": [{}, {"required": "a"}]}, "s.anyOf[1].required"),
        ({"items": {"maxItems": True}}, "s.items.maxItems"),
        ({"maxLength": -1}, "s.maxLength"),
        ({"minimum": "1"}, "s.minimum"),
        ({"multipleOf": 123_457}, "s.multipleOf"),
        ({"multipleOf": 0}, "s.multipleOf"),
        ({"multipleOf": 999.999}, "s.multipleOf"),
        ({"multipleOf": 1e-7}, "s.multipleOf"),
        ({"allOf": [{"pattern": f"x{number}"} for number in range(30)]}, "s"),
        ({"pattern": "("}, "s.pattern"),
        ({"pattern": "(?=a)"}, "s.pattern"),
        ({"pattern": r"(a)\1"}, "s.pattern"),
        ({"pattern": "a{99999999999999999999}"}, "s.pattern"),
        ({"patternProperties": {"(": {}}}, "s.patternProperties.("),
        ({"format": "uri"}, "s.format"),
        ({"$ref": "#/$defs/a/0"}, "s.$ref"),
        ({"$ref": "https://example.com"}, "s.$ref"),
        ({"items": {"items": {"items": {}, "maxItems": 500}, "maxItems": 500}}, "s"),
        ({"properties": {"\x00" + "x" * 90: {"not": {}}}}, "s.properties.?" + "x" * 39 + "….not"),
    ],
    ids=str,
)
def test_what_cannot_is_named_by_its_place(schema: object, place: str) -> None:
    assert [problem.field for problem in schema_problems(schema, "s")] == [place]


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_what_is_kept_of_any_schema_can_be_enforced_but_for_lost_references(
    schema: dict[str, Any],
) -> None:
    problems = schema_problems(enforceable(schema), "s")

    assert all("large when written out" in problem.problem or "$ref" in problem.field for problem in problems)
