"""The minutes of an hour as words. Pure."""

from __future__ import annotations

import re

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty".split()


def word(minute: int) -> str:
    """Return the word for 0 to 59: `zero`, `twenty`, `twenty-nine`."""
    if minute < len(_ONES):
        return _ONES[minute]
    tens, ones = divmod(minute, 10)
    return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")


def contains(text: str, wanted: str) -> bool:
    """Tell whether *text* has the word *wanted*, as a whole word: `nine` is not in `twenty-nine`."""
    return re.search(rf"(?<![\w-]){re.escape(wanted)}(?![\w-])", text, re.IGNORECASE) is not None
