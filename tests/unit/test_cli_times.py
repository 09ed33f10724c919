"""Times as a person writes them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from llorch.cli.times import age_ms, moment_ms

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone(timedelta(hours=1)))
NOW_MS = 1_795_604_400_000


@pytest.mark.parametrize(
    ("text", "ms"), [("0s", 0), ("90s", 90_000), ("15m", 900_000), ("12h", 43_200_000), (" 2w ", 1_209_600_000)]
)
def test_a_length_of_time_is_a_number_with_a_unit(text: str, ms: int) -> None:
    assert age_ms(text) == ms


@pytest.mark.parametrize("text", ["", "1", "d", "-1d", "1.5h", "1 d", "1y", "999999999w", "²d"])
def test_anything_else_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="such as 12h"):
        age_ms(text)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1h", NOW_MS - 3_600_000),
        ("2026-11-25", NOW_MS - 12 * 3_600_000),
        ("2026-11-25T12:00", NOW_MS),
        ("2026-11-25T12:00Z", NOW_MS + 3_600_000),
        ("2026-11-25 11:00+00:00", NOW_MS),
    ],
)
def test_a_moment_is_a_date_in_our_zone_or_how_long_ago(text: str, ms: int) -> None:
    assert moment_ms(text, now=NOW) == ms


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "25.11.2026"])
def test_anything_else_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="expected a date such as 2026-11-25, or how long ago"):
        moment_ms(text, now=NOW)
