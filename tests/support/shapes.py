"""The shape of an answer: its fields with their JSON types and, in a stream, the order of its events. Pure.

Reads streams by itself and strictly, byte by byte, so that it does not share a mistake with what it watches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

TOLD = frozenset(
    {"done_reason", "finish_reason", "format", "object", "owner", "purpose", "role", "status", "stop_reason", "type"}
)
"""Fields whose text is a word of the protocol."""
OPEN = frozenset({"arguments", "input", "metadata", "model_info", "parameters", "properties", "schema"})
"""Fields whose objects have keys of somebody's own."""
UNTIMELY = frozenset({"ping"})
"""Events that may come at any time."""
_BLOCK = re.compile(r"(?:event: (?P<event>[a-z_.]+)\n)?data: (?P<data>[^\n\r]+)")
_COMMENT = re.compile(r": [^\n\r]*")


class Step(NamedTuple):
    """Events of one kind and shape that follow each other, or a whole answer."""

    event: str
    fields: dict[str, str]


def steps(content_type: str, body: str) -> list[Step]:
    """Return the shape of an answer.

    Raises:
        ValueError: It has not the layout of its content type.
    """
    kind = content_type.partition(";")[0]
    if kind == "text/event-stream":
        return collapsed(Step(event, fields(data)) for event, data in _events(body))
    if kind == "application/x-ndjson":
        if not body.endswith("\n"):
            raise ValueError(body[-40:])
        return collapsed(Step("", fields(json.loads(line))) for line in body.removesuffix("\n").split("\n"))
    return [Step("", fields(json.loads(body)))]


def collapsed(found: Iterator[Step]) -> list[Step]:
    """Return steps with one in place of several equal ones, and without those that may come at any time."""
    return [step for step, _ in groupby(step for step in found if step.event not in UNTIMELY)]


def fields(value: object, path: str = "") -> dict[str, str]:
    """Return the JSON types of all that is in a value, by place; `|` is between those of the elements of a list."""
    name = re.split(r"[.\[]", path.removesuffix("[]"))[-1]
    if isinstance(value, dict):
        if name in OPEN:
            return {path: "object"}
        inner = [fields(each, f"{path}.{key}" if path else key) for key, each in value.items()]
        return merged(inner) or {path: "{}"}
    if isinstance(value, list):
        return merged([fields(each, f"{path}[]") for each in value]) or {path: "[]"}
    if isinstance(value, str):
        return {path: f"'{value}'" if name in TOLD or value == "[DONE]" else "string"}
    if value is None or isinstance(value, bool):
        return {path: "null" if value is None else "boolean"}
    return {path: "number"}


def merged(found: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return several shapes as one."""
    places = {place for each in found for place in each}
    kinds = {place: {kind for each in found if place in each for kind in each[place].split("|")} for place in places}
    return {place: "|".join(sorted(kinds[place])) for place in sorted(places)}


def differences(ours: Sequence[Step], recorded: Sequence[Step]) -> set[str]:
    """Return what is only here (`+`), only there (`-`) or of another type, by event; and another order of events.

    Where the order is another, all events of one name are compared as one.
    """
    found: set[str] = set()
    if [step.event for step in ours] != [step.event for step in recorded]:
        found.add(f"order: {' '.join(_order(ours))} / {' '.join(_order(recorded))}")
        ours, recorded = _by_event(ours), _by_event(recorded)
    for mine, theirs in zip(ours, recorded, strict=True):
        at = f"{mine.event}: " if mine.event else ""
        for place in mine.fields.keys() | theirs.fields.keys():
            here, there = mine.fields.get(place), theirs.fields.get(place)
            if here != there:
                found.add(f"{at}{'-' if here is None else '+' if there is None else ''}{place} {here or there}")
    return found


def _order(found: Sequence[Step]) -> list[str]:
    return [step.event or "…" for step in found]


def _by_event(found: Sequence[Step]) -> list[Step]:
    names = sorted({step.event for step in found})
    return [Step(name, merged([step.fields for step in found if step.event == name])) for name in names]


def _events(body: str) -> Iterator[tuple[str, object]]:
    if not body.endswith("\n\n"):
        raise ValueError(body[-40:])
    for block in body.removesuffix("\n\n").split("\n\n"):
        if _COMMENT.fullmatch(block):
            continue
        match = _BLOCK.fullmatch(block)
        if match is None:
            raise ValueError(block)
        data = match["data"]
        yield match["event"] or "", data if data == "[DONE]" else json.loads(data)
