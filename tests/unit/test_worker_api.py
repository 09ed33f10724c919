"""How long the jobs of a worker that is to end may take, as it is told."""

from __future__ import annotations

import pytest

from llorch.errors import InvalidRequest
from roles.worker.api import drain_time


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("2.5", 2.5), ("60", 60.0), ("inf", None)])
def test_a_drain_time_is_a_number_of_seconds_or_without_end(text: str, seconds: float | None) -> None:
    assert drain_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "-inf", "nan", "soon"])
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        drain_time(text)

    problem = {"field": "drain_s", "problem": "expected seconds, 0 or more, or inf"}
    assert refused.value.details == {"fields": [problem]}
