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
FORMATS = "PNG, JPEG, GIF or BMP"
_DATA = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.IGNORECASE)
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
    """Walk from marker to marker, to the frame."""
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _NO_SIZE:
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None
