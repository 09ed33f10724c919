"""What single arguments and flags may say, told before anything is sent. Pure; typer names the flag."""

from __future__ import annotations

import re
from collections.abc import Mapping

import typer

CURSOR = re.compile(r"[1-9][0-9]{0,14}")


def an_id(value: str) -> str:
    """Take an id as an argument: it becomes a part of an address, so it is not nothing and no way upwards.

    Raises:
        typer.BadParameter: It is.
    """
    if value in {"", ".", ".."}:
        raise typer.BadParameter(f"expected an id, found {value!r}")
    return value


def cursor(value: str | None) -> str | None:
    """Take where an earlier list ended; raises as `an_id` does."""
    if value is not None and not CURSOR.fullmatch(value):
        raise typer.BadParameter(f"expected what an earlier list told, found {value!r}")
    return value


def event_id(value: str) -> str:
    """Take the id of an event, or a number of tokens; empty is the beginning; raises as `an_id` does."""
    from llorch.wire.events import ID_SCHEMA

    if not re.search(str(ID_SCHEMA["pattern"]), value) or value.endswith("\n"):
        raise typer.BadParameter(
            f"expected an event id of this job, such as 12.0, or a number of tokens, found {value!r}"
        )
    return value


def idempotency_key(value: str) -> str:
    """Take a key; empty is a new one; raises as `an_id` does."""
    from llorch.wire.tasks import IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_EXPECTED

    if value and not IDEMPOTENCY_KEY.fullmatch(value):
        raise typer.BadParameter(f"{IDEMPOTENCY_KEY_EXPECTED}, found {value!r}")
    return value


def wrong_fields(given: Mapping[str, object], kind: type) -> str:
    """Say which flags have values that the fields of a request of that kind do not take; empty where none has.

    Args:
        given: The flags by the names of the fields.
        kind: A msgspec struct.
    """
    import msgspec

    from llorch.wire.codec import expectation

    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    problems = []
    for name, value in given.items():
        try:
            msgspec.convert(value, types[name])
        except msgspec.ValidationError as error:
            problems.append(f"--{name.replace('_', '-')}: {expectation(error, types[name])}, found {value!r}")
    return "; ".join(problems)
