"""Times as a person writes them: `1d`, `12h`, `2026-11-25`, `2026-11-25T08:30`. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
LONGEST_MS = 100 * 365 * 86_400_000
_AGE = re.compile(r"^(\d{1,9})([smhdw])$")


def age_ms(text: str) -> int:
    """Return a length of time in milliseconds.

    Raises:
        ValueError: Not a number with a unit, or more than a hundred years.
    """
    found = _AGE.match(text.strip())
    ms = int(found[1]) * UNITS_S[found[2]] * 1000 if found else -1
    if not 0 <= ms <= LONGEST_MS:
        raise ValueError(f"expected a number and one of s, m, h, d, w, such as 12h, found {text!r}")
    return ms


def moment_ms(text: str, *, now: datetime) -> int:
    """Return a point in time in Unix milliseconds: a date, a date with a time, or how long ago.

    Args:
        text: Without an offset it is in *now*'s time zone.
        now: The present, with its time zone.

    Raises:
        ValueError: None of these.
    """
    try:
        return round((now - timedelta(milliseconds=age_ms(text))).timestamp() * 1000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        example = now.astimezone(UTC).date().isoformat()
        raise ValueError(f"expected a date such as {example}, or how long ago, such as 12h, found {text!r}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=now.tzinfo)
    return round(moment.timestamp() * 1000)
