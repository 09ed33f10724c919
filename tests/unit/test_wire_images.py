"""What may be a picture in a conversation, told without decoding one."""

from __future__ import annotations

import base64

import pytest

from llorch.wire.images import (
    MAX_FILL_BYTES,
    MAX_MARKERS,
    MAX_PIXELS,
    MAX_SIDE,
    data_of,
    data_url,
    dimensions,
    image_problem,
)
from tests.support.beside import png

BMP = b"BM" + bytes(16) + (30).to_bytes(4, "little") + (-20).to_bytes(4, "little", signed=True)
GIF = b"GIF89a" + (30).to_bytes(2, "little") + (20).to_bytes(2, "little")
JPEG = (
    b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc4\x00\x02\xff\xd0\xff\xc2\x00\x11\x08"
    + (20).to_bytes(2)
    + (30).to_bytes(2)
    + bytes(8)
)


def url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize("data", [png(1, 2, 3), GIF, BMP, JPEG])
@pytest.mark.parametrize("kind", ["png", "unknown", "JPEG"])
def test_pictures_are_known_by_their_bytes_whatever_they_are_called(data: bytes, kind: str) -> None:
    assert image_problem(url(data, kind)) == ""


@pytest.mark.parametrize(
    ("data", "size"), [(png(0, 0, 0, side=8), (8, 8)), (GIF, (30, 20)), (BMP, (30, 20)), (JPEG, (30, 20))]
)
def test_their_size_stands_at_the_beginning(data: bytes, size: tuple[int, int]) -> None:
    assert dimensions(data) == size


@pytest.mark.parametrize(
    "data", [b"", b"GIF89", b"\x89PNG\r\n\x1a\n", b"BM1", b"\xff\xd8", b"\xff\xd8\x00" + bytes(20), b"RIFF....WEBP"]
)
def test_what_is_cut_or_something_else_is_none(data: bytes) -> None:
    assert dimensions(data) is None


FRAME = JPEG[JPEG.index(b"\xff\xc2") :]
COMMENT = b"\xff\xfe\x00\x02"


@pytest.mark.parametrize(
    ("most", "more"),
    [
        (b"\xff" * (MAX_FILL_BYTES - 1), b"\xff" * MAX_FILL_BYTES),
        (COMMENT * (MAX_MARKERS - 1), COMMENT * MAX_MARKERS),
        (b"\xff\x01" * (MAX_MARKERS - 1), b"\xff\x01" * MAX_MARKERS),
        (COMMENT, b"\xff\xfe\x00\x01"),
        (COMMENT, b"\xff\xfe\x00\x00"),
    ],
)
def test_a_jpeg_is_read_in_few_steps_or_not_at_all(most: bytes, more: bytes) -> None:
    assert dimensions(b"\xff\xd8" + most + FRAME) == (30, 20)
    assert dimensions(b"\xff\xd8" + more + FRAME) is None


def test_a_jpeg_that_ends_in_its_frame_is_none() -> None:
    assert dimensions(b"\xff\xd8" + FRAME[:9]) == (30, 20)
    assert dimensions(b"\xff\xd8" + FRAME[:8]) is None


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("http://example.org/a.png", "not fetched from elsewhere"),
        ("HTTPS://example.org/a.png", "not fetched from elsewhere"),
        ("file:///etc/passwd", "expected a URL such as data:image/png;base64"),
        ("data:text/plain;base64,aGk=", "expected a URL such as"),
        ("data:image/png,aGk=", "expected a URL such as"),
        ("data:image/png;base64,a", "it is not base64"),
        ("data:image/png;base64,aGk= ", "it is not base64"),
        ("data:image/png;base64,aGk=", "it is no PNG, JPEG, GIF or BMP picture"),
    ],
)
def test_other_urls_are_refused_with_what_is_expected(told: str, said: str) -> None:
    assert said in image_problem(told)


@pytest.mark.parametrize(
    ("width", "height"), [(MAX_SIDE + 1, 1), (1, MAX_SIDE + 1), (MAX_SIDE, MAX_PIXELS // MAX_SIDE + 1), (0, 5), (5, 0)]
)
def test_a_few_bytes_do_not_become_gigabytes_of_pixels(width: int, height: int) -> None:
    huge = png(1, 2, 3)[:16] + width.to_bytes(4) + height.to_bytes(4)

    assert f"it has {width} x {height} pixels" in image_problem(url(huge))


def test_pictures_in_base64_become_urls_and_are_found_again() -> None:
    data = base64.b64encode(png(1, 2, 3)).decode()

    assert image_problem(data_url(data)) == ""
    assert data_of(data_url(data)) == data
