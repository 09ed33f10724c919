"""Pictures in a conversation: what may be one, told from its first bytes. Pure.

A picture comes with the request, as a `data:` URL: nothing is fetched from elsewhere, because whoever can name an
address could have this machine ask it. Its size is read from the file's own header, so that a few bytes cannot become
gigabytes of pixels. Sources: PNG (https://www.w3.org/TR/png-3/), GIF89a, BMP, JPEG (ITU-T T.81, annex B).
"""

from __future__ import annotations

import binascii
import re

MAX_SIDE, MAX_PIXELS = 16_384, 50_000_000
MAX_IMAGES = 16
MAX_MARKERS, MAX_FILL_BYTES = 1024, 256
"""How many markers of a JPEG are looked at, and of how many bytes each: cameras write hundreds, and a file can claim
millions."""
FORMATS = "PNG, JPEG, GIF or BMP"
_DATA = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.IGNORECASE)
_MARKER = re.compile(b"\xff{1,%d}[^\x00\xff]" % MAX_FILL_BYTES)
_NO_SIZE = frozenset({0x01, *range(0xD0, 0xDA)})
"""Markers of JPEG that nothing follows."""
_NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})
"""Markers between those of frames that begin none."""


def image_problem(url: str) -> str:
    """Return why a picture cannot be used; empty when it can."""
    head = _DATA.match(url)
    if head is None:
        if url[:5].lower() in {"http:", "https"}:
            return "pictures are not fetched from elsewhere; send it as a data: URL"
        return "expected a URL such as data:image/png;base64,…"
    try:
        data = binascii.a2b_base64(url[head.end() :], strict_mode=True)
    except (binascii.Error, ValueError):
        return "it is not base64"
    size = dimensions(data)
    if size is None:
        return f"it is no {FORMATS} picture"
    width, height = size
    if not 0 < width <= MAX_SIDE or not 0 < height <= MAX_SIDE or width * height > MAX_PIXELS:
        most = f"at most {MAX_SIDE} a side and {MAX_PIXELS // 1_000_000} million in all are read"
        return f"it has {width} x {height} pixels; {most}"
    return ""


def data_of(url: str) -> str:
    """Return the base64 of a picture that is sound."""
    return url.partition(",")[2]


def data_url(data: str) -> str:
    """Return the URL of a picture in base64, whatever it is; `image_problem` tells whether it can be used."""
    return f"data:image/unknown;base64,{data}"


def dimensions(data: bytes) -> tuple[int, int] | None:
    """Return the width and height of a picture, in pixels; None when it is none that can be read."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if data[:6] in {b"GIF87a", b"GIF89a"} and len(data) >= 10:
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if data.startswith(b"BM") and len(data) >= 26:
        width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
        return width, abs(height)  # a height below 0 is one from top to bottom
    return _of_jpeg(data) if data.startswith(b"\xff\xd8") else None


def _of_jpeg(data: bytes) -> tuple[int, int] | None:
    """Walk from marker to marker, to the frame, in no more than `MAX_MARKERS` steps."""
    at = 2
    for _ in range(MAX_MARKERS):
        found = _MARKER.match(data, at)
        if found is None:
            return None
        marker, at = data[found.end() - 1], found.end()
        if marker in _NO_SIZE:
            continue
        length = int.from_bytes(data[at : at + 2])
        if length < 2:
            return None
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            whole = at + 7 <= len(data)
            return (int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 3 : at + 5])) if whole else None
        at += length
    return None
