"""Answers held against the types of a library: what is missing, wrong, or not declared."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from tests.support.strictness import problems


class Inner(BaseModel, extra="allow"):
    """One that keeps what it does not know."""

    type: Literal["inner"]
    count: int | None = None


class Other(BaseModel):
    """One that drops it."""

    type: Literal["other"]
    renamed: str = Field(default="", alias="told")


class Outer(BaseModel):
    """One that has others in it."""

    either: list[Inner | Other]
    named: dict[str, Inner] = {}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('{"either": [{"type": "inner", "count": 1}, {"type": "other", "told": "x"}]}', []),
        ('{"either": [{"type": "inner", "mine": 1}]}', ["either[].mine: not declared"]),
        ('{"either": [{"type": "other", "renamed": "x"}]}', ["either[].renamed: not declared"]),
        (
            '{"either": [], "named": {"a": {"type": "inner", "b": {}}}, "c": 1}',
            ["named.a.b: not declared", "c: not declared"],
        ),
        ("{}", ["either: Field required"]),
    ],
)
def test_what_a_library_would_let_pass_is_told(body: str, found: list[str]) -> None:
    assert problems(Outer, body) == found


def test_a_text_is_no_number() -> None:
    assert problems(Inner, '{"type": "inner", "count": "1"}') == ["count: Input should be a valid integer"]


def test_of_a_union_the_type_that_is_told_is_meant() -> None:
    union = Annotated[Inner | Other, "told apart by type"]

    assert problems(union, '{"type": "other", "count": 1}') == ["count: not declared"]
    with pytest.raises(AssertionError, match="third is not one type"):
        problems(union, '{"type": "third"}')
