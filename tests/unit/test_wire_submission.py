"""What a submission may hold, field by field: a value beyond its limit is refused by the name of its field."""

from __future__ import annotations

import json

import msgspec
import pytest

from llorch.wire.codec import decode
from llorch.wire.tasks import MAX_KEEP_ALIVE_S, MAX_SEED, MAX_TIMEOUT_MS, KeepAlive, SubmitTask, keep_alive_s
from llorch.wire.workers import Execute
from tests.support.refusals import LEAST, refused, submitted


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
        ("keep_alive", 0),
        ("keep_alive", -1),
        ("keep_alive", MAX_KEEP_ALIVE_S),
        ("keep_alive", "720h"),
        ("keep_alive", "-1"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_value_at_its_limit_is_accepted(field: str, value: object) -> None:
    assert getattr(submitted(**{field: value}), field) == value


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(90, 90), (0.5, 0.5), (-1, -1), ("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7_200), ("1d", 86_400), ("-1", -1)],
)
def test_a_time_to_keep_a_worker_is_seconds_or_has_a_unit(written: KeepAlive, seconds: float) -> None:
    assert keep_alive_s(written) == seconds


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
    "frequency_penalty": [*FLOAT, (-2.1, "expected `float` >= -2.0"), (2.1, "expected `float` <= 2.0")],
    "presence_penalty": [*FLOAT, (-2.1, "expected `float` >= -2.0"), (2.1, "expected `float` <= 2.0")],
    "logit_bias": [
        ({"x": 1}, "expected the id of a token, as a string of digits"),
        (None, "expected `object`, got `null`"),
    ],
    "response_format": [("json", "expected `object`, got `str`"), ({}, "object missing required field `type`")],
    "logprobs": [(1, "expected `bool`, got `int`")],
    "top_logprobs": [*INT, (-1, "expected `int` >= 0"), (21, "expected `int` <= 20")],
    "tools": [({}, "expected `array`, got `object`")],
    "tool_choice": [("any", "not one of the allowed values")],
    "parallel_tool_calls": [("yes", "expected `bool`, got `str`")],
    "reasoning_format": [("deepseek", "not one of the allowed values")],
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
    "keep_alive": [
        (True, "expected `float | str`, got `bool`"),
        (-1.5, "expected `float` >= -1.0"),
        (MAX_KEEP_ALIVE_S + 1, f"expected `float` <= {MAX_KEEP_ALIVE_S}.0"),
        ("31d", "expected at most 30d"),
        ("5 minutes", "expected a length of time such as 90s or 5m"),
        ("-5m", "expected a length of time such as 90s or 5m"),
        ("", "expected a length of time such as 90s or 5m"),
    ],
    "truncate": [("yes", "expected `bool`, got `str`"), (1, "expected `bool`, got `int`")],
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
    shapes = {"messages", "input", "rerank"}
    assert {*WRONG, *shapes} == {field.encode_name for field in msgspec.structs.fields(SubmitTask)}


@pytest.mark.parametrize(
    ("messages", "field", "problem"),
    [
        ([], "messages", "expected `array` of length >= 1"),
        ("hello", "messages", "expected `array`, got `str`"),
        ([{"role": "user", "content": "x"}, 5], "messages[1]", "expected `object`, got `int`"),
        ([{"role": "user"}], "messages[0].content", "required"),
        ([{"content": "x"}], "messages[0]", "object missing required field `role`"),
        ([{"role": "robot", "content": "x"}], "messages[0].role", "not one of the allowed values"),
        ([{"role": "user", "content": None}], "messages[0].content", "expected `str | array`, got `null`"),
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
    assert refused(json.dumps(body).encode()) == [
        ("prompt", "exactly one of prompt, messages, input and rerank is required")
    ]


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
        ("prompt", "exactly one of prompt, messages, input and rerank is required"),
        ("seed", "expected `int` <= 18446744073709551615"),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("x" * 41, "x" * 40 + "…"), ("x" * 40, "x" * 40), ("a\nb\x1b[0m", "a?b?[0m"), ("", "")],
)
def test_an_unknown_field_is_named_short_and_printable(name: str, shown: str) -> None:
    assert refused(json.dumps(LEAST | {name: 1}).encode()) == [(shown, "unknown field")]
