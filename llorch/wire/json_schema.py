"""Which JSON schemas an engine can be made to follow: what is wrong with one, and where. Pure.

An engine compiles a schema between two tokens, for all its jobs: a schema that is large when written out would stop
them all. So everything here is bounded, and what is not known to be enforced is refused, never passed over.
Source of the words: https://json-schema.org/draft/2020-12/json-schema-validation
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from llorch.wire.codec import FieldProblem

TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
FORMATS = frozenset({"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
ANNOTATIONS = frozenset(
    {"title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly"}
    | {"$schema", "$comment", "strict"}
)
ONE = frozenset({"additionalProperties", "items"})
LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions"})
LENGTHS = frozenset({"minLength", "maxLength", "minItems", "maxItems"})
NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
OTHERS = frozenset({"type", "multipleOf", "enum", "const", "required", "pattern", "format", "$ref"})
KNOWN = ANNOTATIONS | ONE | LISTS | MAPS | LENGTHS | NUMBERS | OTHERS
MAX_LENGTH = 10_000
MAX_ITEMS = 1_000
MAX_SIZE = 10_000
"""Parts of a schema when repetitions are written out; so many take an engine less than a second."""
MAX_PATTERN = 1_000
MAX_MULTIPLE = 1_000
_COUNT = re.compile(r"\{(\d*),?(\d*)\}")
_NOT_REGULAR = re.compile(r"\(\?(?!:)|\\[1-9]|\\[bBAzZGk]")

Json = Mapping[str, Any]


def schema_problems(schema: object, field: str) -> list[FieldProblem]:
    """Return what an engine could not enforce of *schema*, each with its place below *field*."""
    found = list(_problems(schema, field, schema))
    if not found and (size := _size(schema)) > MAX_SIZE:
        found.append(FieldProblem(field, f"it is {size} parts large when written out; at most {MAX_SIZE} are allowed"))
    return found


def enforceable(schema: Json) -> dict[str, Any]:
    """Return *schema* without what an engine could not enforce: whatever follows *schema* follows that, too."""
    kept = _kept(schema, schema)
    return kept if isinstance(kept, dict) else {}


def _kept(schema: object, root: object) -> dict[str, Any] | bool:
    if not isinstance(schema, dict):
        return schema if isinstance(schema, bool) else True
    kept: dict[str, Any] = {}
    for name, value in schema.items():
        if name in ONE:
            kept[name] = _kept(value, root)
        elif name in LISTS and isinstance(value, list) and value:
            kept[name] = [_kept(inner, root) for inner in value]
        elif name in MAPS and isinstance(value, dict):
            sound = {key for key in value if name != "patternProperties" or not _pattern_problem(key)}
            kept[name] = {key: _kept(inner, root) for key, inner in value.items() if key in sound}
        elif name in LENGTHS | NUMBERS | OTHERS and not _problem(name, value, root):
            kept[name] = value
    return kept


def _problems(schema: object, at: str, root: object) -> Iterator[FieldProblem]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield FieldProblem(at, "expected a JSON schema: an object, true or false")
        return
    for name, value in schema.items():
        place = f"{at}.{_shown(name)}"
        if name not in KNOWN:
            yield FieldProblem(place, "this keyword cannot be enforced")
        elif name in ONE:
            yield from _problems(value, place, root)
        elif name in LISTS | MAPS:
            yield from _inner(name, value, place, root)
        elif problem := _problem(name, value, root):
            yield FieldProblem(place, problem)


def _inner(name: str, value: object, at: str, root: object) -> Iterator[FieldProblem]:
    """Yield the problems of a keyword that holds several schemas."""
    if name in LISTS:
        if not isinstance(value, list) or not value:
            yield FieldProblem(at, "expected a list of JSON schemas, not empty")
            return
        for number, inner in enumerate(value):
            yield from _problems(inner, f"{at}[{number}]", root)
        return
    if not isinstance(value, dict):
        yield FieldProblem(at, "expected JSON schemas by name")
        return
    for key, inner in value.items():
        yield from _problems(inner, f"{at}.{_shown(key)}", root)
        if name == "patternProperties" and (problem := _pattern_problem(key)):
            yield FieldProblem(f"{at}.{_shown(key)}", problem)


def _problem(name: str, value: object, root: object) -> str:  # noqa: PLR0911 - one return a keyword
    """Return what is wrong with a keyword that holds no schema; empty when nothing is."""
    if name == "type":
        kinds = value if isinstance(value, list) and value else [value]
        sound = all(isinstance(kind, str) and kind in TYPES for kind in kinds)
        return "" if sound else f"expected one or several of {', '.join(sorted(TYPES))}"
    if name == "enum":
        return "" if isinstance(value, list) and value else "expected a list of values, not empty"
    if name == "required":
        sound = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return "" if sound else "expected a list of names"
    if name in LENGTHS:
        limit = MAX_ITEMS if name.endswith("Items") else MAX_LENGTH
        sound = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit
        return "" if sound else f"expected a whole number from 0 to {limit}"
    if name == "multipleOf":
        sound = isinstance(value, int | float) and not isinstance(value, bool) and _is_handy(value)
        return (
            ""
            if sound
            else f"expected a number above 0 of at most 6 decimals, without its point at most {MAX_MULTIPLE}"
        )
    if name in NUMBERS:
        return "" if isinstance(value, int | float) and not isinstance(value, bool) else "expected a number"
    if name == "pattern":
        return _pattern_problem(value)
    if name == "format":
        sound = isinstance(value, str) and value in FORMATS
        return "" if sound else f"only {', '.join(sorted(FORMATS))} can be enforced"
    if name == "$ref":
        return "" if _found(value, root) else "expected a reference to a part of this schema: # or #/…"
    return ""


def _is_handy(value: float) -> bool:
    """Tell whether an engine can count in multiples of a number: it needs a state for each rest."""
    sign, digits, exponent = Decimal(str(value)).normalize().as_tuple()
    if sign or not any(digits) or not isinstance(exponent, int) or not -6 <= exponent <= 3:
        return False
    whole = int("".join(map(str, digits))) * int(10 ** max(0, exponent))
    return whole <= MAX_MULTIPLE


def _pattern_problem(pattern: object) -> str:
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        return f"expected a regular expression of at most {MAX_PATTERN} characters"
    if _NOT_REGULAR.search(pattern):
        return "look-around, back references and word boundaries cannot be enforced"
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return "not a regular expression"
    if _pattern_size(pattern) > MAX_PATTERN:
        return f"its repetitions are more than {MAX_PATTERN} when written out"
    return ""


def _pattern_size(pattern: str) -> int:
    """Return an upper bound of how often one part of a pattern is repeated by counts."""
    size = 1
    for low, high in _COUNT.findall(pattern):
        size *= max(1, *(int(count[:5]) for count in (low, high) if count))
        if size > MAX_PATTERN:
            break
    return size


def _size(schema: object) -> int:
    """Return how many parts a schema has when its repetitions are written out, as far as it is sound."""
    if not isinstance(schema, dict):
        return 1
    inner = 1 + len(schema.get("enum", ()))
    inner += sum(_size(schema[name]) for name in ONE if name != "items" and name in schema)
    inner += sum(_size(part) for name in LISTS - {"allOf"} for part in schema.get(name, ()))
    inner += math.prod(_size(part) for part in schema.get("allOf", ()))  # what satisfies all is tried out part by part
    inner += sum(_size(part) for name in MAPS for part in schema.get(name, {}).values())
    inner += _pattern_size(schema["pattern"]) if "pattern" in schema else 0
    times: int = max(1, schema.get("minItems", 1), schema.get("maxItems", 1))
    return inner + times * _size(schema.get("items", True))


def _found(reference: object, root: object) -> bool:
    if not isinstance(reference, str) or (reference != "#" and not reference.startswith("#/")):
        return False
    part = root
    for name in reference.split("/")[1:]:
        key = name.replace("~1", "/").replace("~0", "~")
        if isinstance(part, dict) and key in part:
            part = part[key]
        elif isinstance(part, list) and key.isascii() and key.isdigit() and len(key) < 5 and int(key) < len(part):
            part = part[int(key)]
        else:
            return False
    return isinstance(part, dict | bool)


def _shown(name: str) -> str:
    """Return a name of the caller's own that is safe to show: short, printable."""
    return "".join(c if c.isprintable() else "?" for c in name[:40]) + ("…" if len(name) > 40 else "")
