"""What is said of a purge before and after it."""

from __future__ import annotations

import pytest

from llorch.cli import purge
from llorch.wire.operations import Purge, Purged

ALL = Purge(older_than_ms=1)
TEXTS = Purge(older_than_ms=1, outputs_only=True)
FOUND = Purged(jobs={"failed": 3, "completed": 1_204}, outputs=1_100)


def test_the_question_tells_what_would_go() -> None:
    assert purge.question(FOUND, ALL) == "Erase 1,204 completed, 3 failed jobs (1,100 with text)?"
    assert purge.question(FOUND, TEXTS) == "Erase the texts of 1,204 completed, 3 failed jobs, and keep their records?"


@pytest.mark.parametrize(
    ("found", "wanted", "counted_only", "said"),
    [
        (FOUND, ALL, False, "erased 1,204 completed, 3 failed jobs"),
        (FOUND, TEXTS, True, "would erase the texts of 1,204 completed, 3 failed jobs"),
        (Purged(jobs={}, outputs=0), ALL, False, "nothing to erase"),
    ],
)
def test_the_summary_tells_what_went(found: Purged, wanted: Purge, counted_only: bool, said: str) -> None:
    assert purge.summary(found, wanted, counted_only=counted_only) == said
