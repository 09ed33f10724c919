"""Bodies of submissions, and what they are refused for."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from llorch.errors import InvalidRequest
from llorch.wire.codec import decode
from llorch.wire.tasks import SubmitTask

LEAST: dict[str, Any] = {"model": "m", "prompt": "p"}
Fields = list[tuple[str, str]]


def refused(body: bytes, kind: type[msgspec.Struct] = SubmitTask) -> Fields:
    """Return field and problem of everything that *body* is refused for."""
    with pytest.raises(InvalidRequest) as raised:
        decode(body, kind)
    details = raised.value.details
    assert details is not None
    fields = details["fields"]
    assert isinstance(fields, list)
    return [(entry["field"], entry["problem"]) for entry in fields]


def submitted(**changed: object) -> SubmitTask:
    """Decode a submission that differs from the least one in *changed*."""
    return decode(json.dumps(LEAST | changed).encode(), SubmitTask)
