"""What arguments and flags say is looked at before anybody is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import typer

from llorch.cli.flag_checks import an_id, cursor, event_id, idempotency_key, wrong_fields
from llorch.wire.pools import SpawnWorker


@pytest.mark.parametrize(
    ("check", "value"),
    [
        *((an_id, value) for value in ("", ".", "..")),
        *((cursor, value) for value in ("foo", "", "0", "-1", "9" * 16, "1\n")),
        *((event_id, value) for value in ("foo", "-1", "1.", "1.x", "٣", "1\n")),
        *((idempotency_key, value) for value in ("é", "a b", "a" * 256, "a\n")),
    ],
)
def test_what_nobody_would_take_is_refused(check: Callable[[str], str], value: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected "):
        check(value)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        *((an_id, value) for value in ("13d12f5c-ad9f-4ee8-99e7-7a9b0391fdf7", "...")),
        *((cursor, value) for value in ("1", "9" * 15, None)),
        *((event_id, value) for value in ("", "0", "12", "12.0")),
        *((idempotency_key, value) for value in ("", "a", "a" * 255)),
    ],
)
def test_what_is_right_comes_through(check: Callable[[str | None], str | None], value: str | None) -> None:
    assert check(value) == value


def test_each_wrong_flag_is_named_with_what_it_takes() -> None:
    told = wrong_fields({"port": 99999, "slots": -1, "ctx": 512, "device": ""}, SpawnWorker)

    assert told == (
        "--port: expected `int` <= 65535, found 99999; --slots: expected `int` >= 1, found -1; "
        "--device: expected `str` of length >= 1, found ''"
    )
    assert wrong_fields({"port": 0, "slots": 256, "backend": "cpu"}, SpawnWorker) == ""
