"""Decoding a request: everything that is refused, by name of field, and never with the value that was given."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.errors import InvalidRequest
from llorch.wire.codec import LARGE_BYTES, MAX_DEPTH, MAX_KEYS, decode, decode_reply, encode
from llorch.wire.meta import ReadyReply
from llorch.wire.tasks import MAX_SEED, MAX_TIMEOUT_MS, Message, SubmitTask
from llorch.wire.workers import CancelJob, Execute

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


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "the body is not JSON (Expecting value at character 0)"),
        (b"   ", "the body is not JSON (Expecting value at character 3)"),
        (b"hello", "the body is not JSON (Expecting value at character 0)"),
        (b'{"model": "m"', "the body is not JSON (Expecting ',' delimiter at character 13)"),
        (b'{"model": "m', "the body is not JSON (Unterminated string starting at at character 10)"),
        (b'{"model": "m"} {}', "the body is not JSON (Extra data at character 15)"),
        (b'{"model": "a\nb"}', "the body is not JSON (Invalid control character at at character 12)"),
        (b'{"model": "\xff"}', "the body is not UTF-8 (byte 11)"),
        (b'{"model": "\xed\xa0\x80"}', "the body is not UTF-8 (byte 11)"),
        ('{"model": "m"}'.encode("utf-16"), "the body is not UTF-8 (byte 0)"),
        (b'{"top_p": NaN}', "NaN is not a JSON number"),
        (b'{"top_p": Infinity}', "Infinity is not a JSON number"),
        (b'{"x": [{"y": -Infinity}]}', "-Infinity is not a JSON number"),
        (b'{"seed": ' + b"9" * 5_000 + b"}", "a number has too many digits"),
        (b'{"top_p": 1e400}', "a number is out of range"),
        (b'{"x": [-1e400]}', "a number is out of range"),
        (rb'{"prompt": "\ud800"}', "a string holds half of a surrogate pair, which is not a character"),
        (rb'{"prompt": "\uDE00\uD83D"}', "a string holds half of a surrogate pair, which is not a character"),
        (rb'{"\udc00": 1}', "a string holds half of a surrogate pair, which is not a character"),
        (b"[" * 10_000, "the body is nested deeper than 64 levels"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "the body is nested deeper than 64 levels"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "the body is nested deeper than 64 levels"),
        (b"null", "the body must be a JSON object"),
        (b"[]", "the body must be a JSON object"),
        (b"12", "the body must be a JSON object"),
        (b'"{}"', "the body must be a JSON object"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_a_body_that_is_not_a_json_object_is_refused(body: bytes, problem: str) -> None:
    assert refused(body) == [("", problem)]


def test_a_byte_order_mark_is_refused() -> None:
    ((field, problem),) = refused(b"\xef\xbb\xbf{}")

    assert field == ""
    assert problem.startswith("the body is not JSON (Unexpected UTF-8 BOM")


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_body_as_deep_as_allowed_is_read(opening: bytes, closing: bytes) -> None:
    body = b'{"a":' + opening * (MAX_DEPTH - 1) + b"1" + closing * (MAX_DEPTH - 1) + b"}"

    assert refused(body) == [
        ("a", "unknown field"),
        ("model", "required"),
    ]


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert decode(rb'{"model": "m", "prompt": "\ud83d\ude00"}', SubmitTask).prompt == "😀"


def test_a_backslash_before_the_letters_of_a_surrogate_is_text() -> None:
    assert decode(rb'{"model": "m", "prompt": "\\ud800"}', SubmitTask).prompt == "\\ud800"


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"model": "a", "model": "b"}', ["model"]),
        (b'{"model": "a", "model": "a", "model": "a"}', ["model"]),
        (b'{"seed": 1, "model": "a", "seed": 1, "model": "b"}', ["model", "seed"]),
        (b'{"messages": [{"role": "user", "content": "a", "content": "b"}]}', ["content"]),
        (rb'{"model": "a", "m\u006fdel": "b"}', ["model"]),
    ],
)
def test_a_doubled_key_is_refused_wherever_it_is(body: bytes, names: list[str]) -> None:
    assert refused(body) == [(name, "given more than once") for name in names]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "x" * 1024),
        ("prompt", "x"),
        ("prompt", "\0é😀\u2028"),
        ("max_tokens", 1),
        ("max_tokens", 2**31 - 1),
        ("temperature", 0),
        ("temperature", 2.0),
        ("top_p", 0),
        ("top_p", 1),
        ("top_k", 0),
        ("top_k", 2**31 - 1),
        ("min_p", 0.0),
        ("min_p", 1),
        ("repetition_penalty", 0),
        ("repetition_penalty", 2),
        ("stop", []),
        ("stop", ["x" * 100] * 4),
        ("seed", 0),
        ("seed", MAX_SEED),
        ("priority", "interactive"),
        ("priority", "batch"),
        ("session_id", "x" * 128),
        ("session_id", "a:b/c~!"),
        ("timeout_ms", 1),
        ("timeout_ms", MAX_TIMEOUT_MS),
        ("on_disconnect", "continue"),
        ("on_disconnect", "cancel"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_value_at_its_limit_is_accepted(field: str, value: object) -> None:
    assert getattr(submitted(**{field: value}), field) == value


@pytest.mark.parametrize("number", ["7", "7.0", "70e-1", "0.7E1"])
def test_an_integer_may_be_written_with_a_fraction_or_an_exponent(number: str) -> None:
    assert decode(b'{"model": "m", "prompt": "p", "top_k": %b}' % number.encode(), SubmitTask).top_k == 7


def test_a_float_beyond_exact_integers_is_not_taken_for_one() -> None:
    assert refused(b'{"model": "m", "prompt": "p", "seed": 1e17}') == [("seed", "expected `int`, got `float`")]


def test_a_seed_of_more_than_64_bits_is_refused_by_a_worker_too() -> None:
    body = b'{"job_id": "j", "prompt": "p", "seed": 18446744073709551616}'

    assert refused(body, Execute) == [("seed", f"expected `int` <= {MAX_SEED}")]


INT = [(1.5, "expected `int`, got `float`"), ("1", "expected `int`, got `str`"), (True, "expected `int`, got `bool`")]
FLOAT = [
    ("1", "expected `float`, got `str`"),
    (False, "expected `float`, got `bool`"),
    (None, "expected `float`, got `null`"),
    (10**400, "number out of range"),
]
WRONG: dict[str, list[tuple[object, str]]] = {
    "model": [
        ("", "expected `str` of length >= 1"),
        ("x" * 1025, "expected `str` of length <= 1024"),
        (None, "expected `str`, got `null`"),
        (["m"], "expected `str`, got `array`"),
    ],
    "prompt": [("", "expected `str` of length >= 1"), (None, "expected `str`, got `null`")],
    "max_tokens": [*INT, (0, "expected `int` >= 1"), (2**31, "expected `int` <= 2147483647")],
    "temperature": [*FLOAT, (-0.001, "expected `float` >= 0.0"), (2.001, "expected `float` <= 2.0")],
    "top_p": [*FLOAT, (-0.001, "expected `float` >= 0.0"), (1.001, "expected `float` <= 1.0")],
    "top_k": [*INT, (-1, "expected `int` >= 0"), (2**31, "expected `int` <= 2147483647")],
    "min_p": [*FLOAT, (-0.001, "expected `float` >= 0.0"), (1.001, "expected `float` <= 1.0")],
    "repetition_penalty": [*FLOAT, (-1, "expected `float` >= 0.0"), (2.001, "expected `float` <= 2.0")],
    "stop": [("x", "expected `array`, got `str`"), (["x"] * 5, "expected `array` of length <= 4")],
    "seed": [*INT, (-1, "expected `int` >= 0"), (MAX_SEED + 1, f"expected `int` <= {MAX_SEED}")],
    "priority": [("urgent", "not one of the allowed values"), (1, "expected `str`, got `int`")],
    "session_id": [
        ("", "expected `str` of length >= 1"),
        ("x" * 129, "expected `str` of length <= 128"),
        ("a b", "expected printable ASCII, no spaces"),
        ("é", "expected printable ASCII, no spaces"),
    ],
    "timeout_ms": [*INT, (0, "expected `int` >= 1"), (MAX_TIMEOUT_MS + 1, "expected `int` <= 1800000")],
    "on_disconnect": [("stop", "not one of the allowed values"), (None, "expected `str`, got `null`")],
}


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [(field, value, problem) for field, cases in WRONG.items() for value, problem in cases],
    ids=lambda value: repr(value)[:24],
)
def test_a_value_beyond_its_limit_is_refused_by_name(field: str, value: object, problem: str) -> None:
    assert refused(json.dumps(LEAST | {field: value}).encode()) == [(field, problem)]


def test_the_table_of_wrong_values_knows_every_field() -> None:
    assert {*WRONG, "messages"} == {field.encode_name for field in msgspec.structs.fields(SubmitTask)}


@pytest.mark.parametrize(
    ("messages", "field", "problem"),
    [
        ([], "messages", "expected `array` of length >= 1"),
        ("hello", "messages", "expected `array`, got `str`"),
        ([{"role": "user", "content": "x"}, 5], "messages[1]", "expected `object`, got `int`"),
        ([{"role": "user"}], "messages[0]", "object missing required field `content`"),
        ([{"content": "x"}], "messages[0]", "object missing required field `role`"),
        ([{"role": "tool", "content": "x"}], "messages[0].role", "not one of the allowed values"),
        ([{"role": "user", "content": None}], "messages[0].content", "expected `str`, got `null`"),
        ([{"role": "user", "content": "x", "name": "y"}], "messages[0]", "contains an unknown field"),
    ],
)
def test_a_wrong_message_is_refused_by_its_place(messages: object, field: str, problem: str) -> None:
    assert refused(json.dumps({"model": "m", "messages": messages}).encode()) == [(field, problem)]


@pytest.mark.parametrize("stop", [["ok", ""], ["ok", "x" * 101], ["ok", 5]])
def test_a_wrong_stop_sequence_is_refused_by_its_place(stop: object) -> None:
    ((field, _),) = refused(json.dumps(LEAST | {"stop": stop}).encode())

    assert field == "stop[1]"


@pytest.mark.parametrize(
    "body", [{"model": "m"}, {"model": "m", "prompt": "p", "messages": [{"role": "user", "content": "x"}]}]
)
def test_exactly_one_of_prompt_and_messages_is_required(body: dict[str, object]) -> None:
    assert refused(json.dumps(body).encode()) == [("prompt", "exactly one of prompt and messages is required")]


def test_every_problem_is_named_at_once() -> None:
    body = {"prompt": 5, "temperature": 9, "stop": "x", "temprature": 1, "messages": [{"role": "x", "content": "y"}]}

    assert refused(json.dumps(body).encode()) == [
        ("temprature", "unknown field"),
        ("temperature", "expected `float` <= 2.0"),
        ("stop", "expected `array`, got `str`"),
        ("model", "required"),
        ("prompt", "expected `str`, got `int`"),
        ("messages[0].role", "not one of the allowed values"),
    ]


def test_problems_that_span_fields_are_named_together() -> None:
    assert refused(b'{"model": "m", "seed": 18446744073709551616}') == [
        ("prompt", "exactly one of prompt and messages is required"),
        ("seed", "expected `int` <= 18446744073709551615"),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("x" * 41, "x" * 40 + "…"), ("x" * 40, "x" * 40), ("a\nb\x1b[0m", "a?b?[0m"), ("", "")],
)
def test_an_unknown_field_is_named_short_and_printable(name: str, shown: str) -> None:
    assert refused(json.dumps(LEAST | {name: 1}).encode()) == [(shown, "unknown field")]


def test_a_body_between_roles_may_have_fields_that_are_not_known_yet() -> None:
    assert decode(b'{"job_id": "j", "added_later": 1}', CancelJob) == CancelJob("j")


def test_a_reply_may_have_fields_that_are_not_known_yet() -> None:
    assert decode_reply(b'{"ready": true, "added_later": 1}', ReadyReply) == ReadyReply(ready=True)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"ready": "yes"}', b"[]", b"\xff", b'{"ready": true, "reason": 1}'])
def test_a_reply_that_is_something_else_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_reply(body, ReadyReply)


LARGE = b'"prompt": "' + b"x" * LARGE_BYTES + b'"'


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[" * LARGE_BYTES + b"]", ("", "expected `object`, got `array`")),
        (b"{" + LARGE, ("", "the body is not JSON (Input data was truncated)")),
        (
            b'{"model": "m"' + b" " * LARGE_BYTES + b", x}",
            ("", "the body is not JSON (object keys must be strings (byte 65551))"),
        ),
        (b'{"model": "\xff", ' + LARGE + b"}", ("", "the body is not UTF-8")),
        (b'{"model": "m", "x": 1, ' + LARGE + b"}", ("x", "unknown field")),
        (b"{" + LARGE + b"}", ("model", "required")),
        (b'{"model": 5, "top_k": -1, ' + LARGE + b"}", ("model", "expected `str`, got `int`")),
        (
            b'{"model": "m", "messages": [{"role": 5}], ' + LARGE + b"}",
            ("messages[0].role", "expected `str`, got `int`"),
        ),
        (b'{"model": "m", "messages": [{"y": 5}], ' + LARGE + b"}", ("messages[0]", "contains an unknown field")),
        (b'{"model": "m", "top_k": "5", ' + LARGE + b"}", ("top_k", "expected `int`, got `str`")),
        (b'{"model": "m", "model": "m", ' + LARGE + b"}", ("model", "given more than once")),
        (b'{"prompt": "p"' + b', "model" : "m"' * (MAX_KEYS + 1) + b"}", ("", "keys are given more than once")),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": "x"}], ' + LARGE + b"}",
            ("prompt", "exactly one of prompt and messages is required"),
        ),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_a_large_body_is_refused_for_the_first_thing_that_is_wrong(body: bytes, problem: tuple[str, str]) -> None:
    assert refused(body) == [problem]


def test_a_large_body_is_read_like_a_small_one() -> None:
    code = json.dumps({str(number): "value" for number in range(2 * MAX_KEYS)})
    given_body = {"model": "m", "prompt": code + "\\", "top_k": 40.0, "temperature": 1, "stop": ["é"]}

    read = decode(json.dumps(given_body, ensure_ascii=False).encode(), SubmitTask)

    assert read == SubmitTask(model="m", prompt=code + "\\", top_k=40, temperature=1.0, stop=["é"])


def test_a_large_body_between_roles_may_have_fields_that_are_not_known_yet() -> None:
    body = b'{"job_id": "j", "added_later": "' + b"x" * LARGE_BYTES + b'"}'

    assert decode(body, CancelJob) == CancelJob("j")


def test_an_answer_does_not_grow_with_the_request() -> None:
    body = json.dumps({f"key{number}": 1 for number in range(1_000)}).encode()

    with pytest.raises(InvalidRequest) as raised:
        decode(body, SubmitTask)

    assert len(body) < LARGE_BYTES
    assert raised.value.message.endswith("key19: unknown field; and 981 more")
    assert len(json.dumps(raised.value.details)) < 2_000


secrets = st.text(st.characters(codec="utf-8", categories=["L", "N"]), max_size=12).map(lambda text: f"SECRET{text}")
around = st.sampled_from(
    [
        '{{"model": "m", "prompt": {0}, "temperature": 9}}',
        '{{"model": "m", "prompt": {0}, "prompt": {0}}}',
        '{{"model": "m", "prompt": {0}, "messages": {0}}}',
        '{{"model": "m", "prompt": {0}, "max_tokens": {0}, "seed": {0}, "stop": {0}, "on_disconnect": {0}}}',
        '{{"model": "m", "prompt": {0}, "priority": {0}, "top_k": {0}, "top_p": {0}, "session_id": 1}}',
        '{{"model": "m", "prompt": [{0}]}}',
        '{{"model": "m", "messages": [{{"role": {0}, "content": {0}}}]}}',
        '{{"model": "m", "messages": [{{"role": "user", "content": {{{0}: {0}}}}}]}}',
        '{{"model": "m", "messages": [{{"role": "user", {0}: {0}}}]}}',
        '{{"model": "m", "messages": [{{"role": "user", "content": "x", {0}: 1}}]}}',
        '{{"model": "m", "messages": {{{0}: {0}}}}}',
        '{{"model": "m", "messages": {0}}}',
        '{{"model": "m", "prompt": {0}',
        '{{"model": "m", "prompt": {0} {0}}}',
        '{{"model": "m", "prompt": {0}, "x": NaN}}',
        "[{0}]",
        "{0}",
    ]
)


@given(secrets, around)
def test_an_error_never_repeats_what_was_given(secret: str, body: str) -> None:
    given_body = body.format(json.dumps(secret)).encode()

    with pytest.raises(InvalidRequest) as raised:
        decode(given_body, SubmitTask)

    assert "SECRET" not in raised.value.message
    assert "SECRET" not in json.dumps(raised.value.details)


tasks = st.builds(
    SubmitTask,
    model=st.text(min_size=1, max_size=20),
    prompt=st.text(min_size=1),
    seed=st.integers(min_value=0, max_value=MAX_SEED),
    temperature=st.floats(min_value=0, max_value=2),
    stop=st.lists(st.text(min_size=1, max_size=9), max_size=4),
) | st.builds(
    SubmitTask,
    model=st.just("m"),
    messages=st.lists(
        st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=st.text()), min_size=1
    ),
    priority=st.sampled_from(["interactive", "batch"]),
)


@given(tasks)
def test_what_is_encoded_decodes_to_the_same(task: SubmitTask) -> None:
    assert decode(encode(task), SubmitTask) == task


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_body_whatever_raises_anything_but_the_one_error(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode(body, SubmitTask)
