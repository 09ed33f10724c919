"""The line that tells a failure."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import typer

from llorch.cli.complaints import FAILED, USAGE
from llorch.cli.failures import surroundings, usage


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("BACKEND is cpu, not --backend cuda", "BACKEND is cpu, not --backend cuda; see llorch --help"),
        ("Invalid value: No such thing.", "no such thing; see llorch --help"),
        ("A flag is missing", "a flag is missing; see llorch --help"),
    ],
)
def test_wrong_usage_is_told_in_the_words_of_help(message: str, told: str) -> None:
    assert usage(typer.TyperException(message)) == told


@pytest.mark.parametrize(
    ("text", "encoding", "told"),
    [
        ("caf\udce9", "utf-8", "llorch: an argument is not UTF-8\n"),
        (
            "a–b",
            "ascii",
            "llorch: there is no '\\u2013' in ascii: use a locale of UTF-8, such as LC_ALL=C.UTF-8\n",
        ),
    ],
)
def test_an_argument_is_blamed_for_bytes_that_are_not_utf8_alone(
    text: str, encoding: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnicodeEncodeError) as raised:
        text.encode(encoding)

    status = surroundings(raised.value)

    assert (status, capsys.readouterr().err) == (USAGE, told)


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="too long") as raised:
        (tmp_path / ("x" * 300)).stat()

    status = surroundings(raised.value)

    assert (status, capsys.readouterr().err) == (FAILED, f"llorch: {tmp_path}/{'x' * 300}: file name too long\n")


def test_what_no_file_explains_is_not_hidden() -> None:
    with pytest.raises(OSError, match="fork"):
        surroundings(OSError(errno.EAGAIN, "fork"))
