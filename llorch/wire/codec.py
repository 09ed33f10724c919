"""JSON bytes to checked, frozen types and back; the only place that knows how strict we are. No I/O.

Strategy: the standard library parses, because it can see doubled keys; msgspec then checks the whole against a
type. When that fails, each field is checked alone, so that one answer names every offending field. All that is slow:
a large body, which could keep everybody else waiting for seconds, is first read by msgspec alone, which stops at the
first thing that is wrong.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Literal, NoReturn, TypeVar, get_args, get_origin

import msgspec

from llorch.errors import InvalidRequest

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises of bytes that are not JSON, or not of the form that is asked for."""
MAX_DEPTH = 64
MAX_PROBLEMS = 20
"""So many are told; an answer does not grow with the request."""
LARGE_BYTES = 64 * 1024
MAX_KEYS = 16 * 1024
"""More than any sound body has; finding out which of them are doubled would take long."""
MAX_EXACT = 2**53
"""Up to here a number with a fraction or an exponent stands for one integer only."""
_GAP = msgspec.Raw(b"\0")
"""Where a list is left out: no JSON has that byte."""
_TOP_LEVEL = re.compile(r"^Object (contains unknown|missing required) field `([^`]*)`$")
_KEY = re.compile(rb'"(?<!\\.)[ \t\r\n]*:', re.DOTALL)
"""The end of a key: inside a text, a quotation mark has a backslash before it."""


class FieldProblem(msgspec.Struct, frozen=True):
    """One thing wrong with one field; never the value itself."""

    field: str
    problem: str
    spans: tuple[str, ...] = ()
    """Other fields that the problem is also about."""


class FieldProblems(ValueError):
    """Raised by a wire type's `__post_init__`: what is wrong, by field."""

    def __init__(self, *problems: FieldProblem) -> None:
        super().__init__("; ".join(f"{p.field}: {p.problem}" for p in problems))
        self.problems = problems


def encode(value: object) -> bytes:
    """Encode a wire type (or plain JSON data) as compact JSON."""
    return msgspec.json.encode(value)


def pieces(value: msgspec.Struct) -> Iterator[bytes]:
    """Yield what `encode` returns in pieces: each element of a list is one, so that no call of msgspec takes long."""
    lists = [found for name in value.__struct_fields__ if isinstance(found := getattr(value, name), list)]
    gaps = {name: _GAP for name in value.__struct_fields__ if isinstance(getattr(value, name), list)}
    first, *rest = encode(msgspec.structs.replace(value, **gaps)).split(_GAP)
    yield first
    for elements, behind in zip(lists, rest, strict=True):
        for index, element in enumerate(elements):
            yield (b"," if index else b"[") + encode(element)
        yield (b"]" if elements else b"[]") + behind


def decode(body: bytes, kind: type[S]) -> S:
    """Decode a request body into *kind*.

    Raises:
        InvalidRequest: Not UTF-8, not JSON, doubled keys, nested deeper than `MAX_DEPTH`, or not what *kind* asks
            for; `details["fields"]` then lists every offending field (of a large body, the first).
    """
    if len(body) > LARGE_BYTES:
        strict = not kind.__struct_config__.forbid_unknown_fields
        decoded = _sift(body, kind, strict=strict)
        if strict:
            return decoded  # what is not known there is not looked at either
        if next(islice(_KEY.finditer(body), MAX_KEYS, None), None) is not None:
            raise invalid([FieldProblem("", "keys are given more than once")])
    data = _parse(body)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError:
        problems = _problems(data, kind)
    raise invalid(problems)


def reread(body: bytes, kind: type[S]) -> S:
    """Decode what was checked when it came: quicker than `decode`, with the same errors.

    Raises:
        InvalidRequest: It is no *kind* all the same: another version wrote it.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE:
        return decode(body, kind)


def checked(value: S) -> S:
    """Return a value that was made here once it is found to be one that could have been sent.

    msgspec checks lengths and ranges only where it decodes.

    Raises:
        InvalidRequest: As `decode` does.
    """
    return reread(encode(value), type(value))


def decode_reply(body: bytes, kind: type[T]) -> T:
    """Decode what another llorch process sent; unknown fields are ignored.

    Raises:
        ValueError: It is not a *kind* (msgspec's errors are ValueErrors).
    """
    return msgspec.json.decode(body, type=kind)


def invalid(problems: Sequence[FieldProblem]) -> InvalidRequest:
    """Build the one error that names all *problems*, or as many as there is room for."""
    more = len(problems) - MAX_PROBLEMS
    problems = problems[:MAX_PROBLEMS]
    listed = "; ".join(f"{p.field}: {p.problem}" if p.field else p.problem for p in problems)
    fields = [{"field": p.field, "problem": p.problem} for p in problems]
    rest = f"; and {more} more" if more > 0 else ""
    return InvalidRequest(f"the request is not valid: {listed}{rest}", details={"fields": fields})


def _sift(body: bytes, kind: type[S], *, strict: bool) -> S:
    """Read a body fast, and refuse it for the first thing that is wrong.

    When not *strict*, this only sifts: numbers in strings and the like pass.
    """
    try:
        return msgspec.json.decode(body, type=kind, strict=strict)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        problems = list(cause.problems) if isinstance(cause, FieldProblems) else [_first_problem(error)]
    except UnicodeDecodeError:
        problems = [FieldProblem("", "the body is not UTF-8")]
    except msgspec.DecodeError as error:
        problems = [FieldProblem("", f"the body is not JSON ({str(error).removeprefix('JSON is malformed: ')})")]
    except RecursionError:
        problems = [FieldProblem("", f"the body is nested deeper than {MAX_DEPTH} levels")]
    raise invalid(problems)


def _first_problem(error: msgspec.ValidationError) -> FieldProblem:
    """Return what msgspec stumbled over, named as `_problems` would."""
    found = _TOP_LEVEL.match(str(error))
    if found is not None:
        return FieldProblem(_shown(found[2]), "unknown field" if found[1] == "contains unknown" else "required")
    told = _problem("", error)
    return FieldProblem(told.field.removeprefix("."), told.problem)


def _parse(body: bytes) -> object:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid([FieldProblem("", f"the body is not UTF-8 (byte {error.start})")]) from None
    doubled: list[str] = []
    try:
        data: object = json.loads(
            text, object_pairs_hook=_pairs(doubled), parse_constant=_no_constant, parse_float=_number
        )
    except json.JSONDecodeError as error:
        raise invalid([FieldProblem("", f"the body is not JSON ({error.msg} at character {error.pos})")]) from None
    except RecursionError:
        raise invalid([FieldProblem("", f"the body is nested deeper than {MAX_DEPTH} levels")]) from None
    except ValueError as error:  # an integer of more digits than Python converts, NaN, Infinity
        problem = "a number has too many digits" if "digits" in str(error) else str(error)
        raise invalid([FieldProblem("", problem)]) from None
    if doubled:
        raise invalid([FieldProblem(name, "given more than once") for name in sorted(set(doubled))])
    if "\\ud" in text.lower() and not _encodable(data):
        raise invalid([FieldProblem("", "a string holds half of a surrogate pair, which is not a character")])
    if _too_deep(data, MAX_DEPTH):
        raise invalid([FieldProblem("", f"the body is nested deeper than {MAX_DEPTH} levels")])
    return data


def _pairs(doubled: list[str]) -> Callable[[list[tuple[str, object]]], dict[str, object]]:
    def hook(pairs: list[tuple[str, object]]) -> dict[str, object]:
        built = dict(pairs)
        if len(built) != len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    doubled.append(_shown(name))
                seen.add(name)
        return built

    return hook


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _number(text: str) -> float:
    """Read a number with a fraction or an exponent; 2.0 and 1e3 are integers, as JSON Schema has it."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return int(number) if number.is_integer() and abs(number) <= MAX_EXACT else number


def _encodable(data: object) -> bool:
    try:
        msgspec.json.encode(data)
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _too_deep(data: object, left: int) -> bool:
    if isinstance(data, dict):
        return left == 0 or any(_too_deep(value, left - 1) for value in data.values())
    if isinstance(data, list):
        return left == 0 or any(_too_deep(value, left - 1) for value in data)
    return False


def _problems(data: object, kind: type[msgspec.Struct]) -> list[FieldProblem]:
    if not isinstance(data, dict):
        return [FieldProblem("", "the body must be a JSON object")]
    found: list[FieldProblem] = []
    sound: dict[str, object] = {}
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    if kind.__struct_config__.forbid_unknown_fields:
        found += [FieldProblem(_shown(name), "unknown field") for name in data if name not in known]
    for name, field in known.items():
        if name not in data:
            if field.required:
                found.append(FieldProblem(name, "required"))
            continue
        try:
            msgspec.convert(data[name], field.type)
        except msgspec.ValidationError as error:
            found.append(_problem(name, error, field.type))
        else:
            sound[name] = data[name]
    wrong = {re.split(r"[.\[]", problem.field)[0] for problem in found}
    try:
        msgspec.convert(sound, kind)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, FieldProblems):
            found += [p for p in error.__cause__.problems if not wrong & {p.field, *p.spans}]
        elif not found:
            found.append(_problem("", error))
    return found or [FieldProblem("", "not valid")]


def expectation(error: msgspec.ValidationError, kind: object) -> str:
    """Say what is allowed where *kind* was asked for; a pattern is told by its description."""
    text, _, _ = str(error).partition(" - at `")
    if "matching regex" in text:
        described = [found.description for found in _metas(kind) if found.pattern and found.description]
        text = f"expected {described[0]}" if described else "not in the form that is expected"
    choices = _choices(kind)
    if text.startswith("Invalid enum value") and choices:
        return f"expected one of {', '.join(choices)}"
    return text[:1].lower() + text[1:]


def _choices(kind: object) -> list[str]:
    """Return the texts that *kind* allows, where it lists them."""
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    return [choice for part in get_args(kind) for choice in _choices(part)]


def _metas(kind: object) -> list[msgspec.Meta]:
    own = [found for found in getattr(kind, "__metadata__", ()) if isinstance(found, msgspec.Meta)]
    return own + [found for part in get_args(kind) for found in _metas(part)]


def _problem(name: str, error: msgspec.ValidationError, kind: object = None) -> FieldProblem:
    """Turn msgspec's words into ours: with the path, and without the value."""
    if isinstance(error.__cause__, FieldProblems):
        first = error.__cause__.problems[0]
        return FieldProblem(f"{name}{_path(str(error))}.{first.field}", first.problem)
    text = expectation(error, kind)
    if str(error).startswith("Invalid enum value"):
        text = "not one of the allowed values"
    elif text.startswith("object contains unknown field"):
        text = "contains an unknown field"
    return FieldProblem(name + _path(str(error)), text)


def _path(text: str) -> str:
    _, found, path = text.partition(" - at `$")
    return path.rstrip("`") if found else ""


def _shown(name: str) -> str:
    """Return a field name that is safe to show: short, printable."""
    clean = "".join(c if c.isprintable() else "?" for c in name[:40])
    return clean + "…" if len(name) > len(clean) else clean
