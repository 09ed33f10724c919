"""How numbers are shown to a person: times, sizes, bars, rates. Pure."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
BAR_CELLS = 20


def duration(ms: float) -> str:
    """Return a length of time in two figures' worth: `850 ms`, `2.4 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    ms = max(0, ms)
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 59_950:
        return f"{ms / 1000:.1f} s"
    seconds = round(ms / 1000)
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    if seconds < 86_400:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
    return f"{seconds // 86_400} d {seconds % 86_400 // 3600} h"


def age(ms: float) -> str:
    """Return a length of time in at most six characters: `0s`, `59s`, `3m05s`, `2h10m`, `3d4h`, `1000d`."""
    seconds = max(0, round(ms / 1000))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    days, hours = seconds // 86_400, seconds % 86_400 // 3600
    return f"{days}d{hours}h" if days < 100 else f"{days}d"


def size(count: int) -> str:
    """Return a number of bytes in the unit that suits it: `512 B`, `3.0 MiB`, `23.5 GiB`."""
    value = float(count)
    for unit in _UNITS:
        if value < 1023.95 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def bar(used: int, total: int, *, cells: int = BAR_CELLS) -> str:
    """Return a bar whose filled part is to its length what *used* is to *total*."""
    share = min(max(used / total, 0), 1) if total > 0 else 0
    filled = round(share * cells)
    return f"[{'#' * filled}{'.' * (cells - filled)}] {share:4.0%}"


def rate(tokens: int, ms: float) -> str:
    """Return tokens per second, or a dash where no time has passed."""
    return f"{tokens * 1000 / ms:.1f} tokens/s" if ms > 0 else "–"


def summary(*, tokens: int, decode_ms: float, first_token_ms: float, queue_ms: float, read: bool = False) -> str:
    """Return the line of figures at the end of a job; its tokens were *read* or written."""
    counted = f"{tokens} token{'' if tokens == 1 else 's'}"
    if read:
        return f"{counted} read · first result after {duration(first_token_ms)} · {duration(queue_ms)} in queue"
    return (
        f"{counted} · {rate(tokens, decode_ms)} · first token after {duration(first_token_ms)}"
        f" · {duration(queue_ms)} in queue"
    )
