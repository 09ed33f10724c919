"""The word of the minute, and whether an answer has it."""

from __future__ import annotations

import pytest

from llorch.cli.minute_words import contains, word


@pytest.mark.parametrize(
    ("minute", "expected"), [(0, "zero"), (9, "nine"), (13, "thirteen"), (20, "twenty"), (59, "fifty-nine")]
)
def test_a_minute_has_its_word(minute: int, expected: str) -> None:
    assert word(minute) == expected


def test_the_sixty_words_are_sixty() -> None:
    assert len({word(minute) for minute in range(60)}) == 60


@pytest.mark.parametrize(
    ("text", "wanted", "found"),
    [
        ("Twenty-nine moons", "twenty-nine", True),
        ("twenty-nine moons", "nine", False),
        ("Nine moons.", "nine", True),
        ("ninety", "nine", False),
        ("", "one", False),
    ],
)
def test_only_the_whole_word_counts(text: str, wanted: str, *, found: bool) -> None:
    assert contains(text, wanted) == found
