"""Messages, tools and forms of answers: what is taken, and how what is wrong is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llorch.errors import InvalidRequest
from llorch.wire.codec import decode, encode
from llorch.wire.tasks import SubmitTask, can_go_on, shared
from llorch.wire.workers import Execute

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def problems(**fields: object) -> list[str]:
    with pytest.raises(InvalidRequest) as refused:
        decode(encode(ASKED | fields), SubmitTask)
    details = refused.value.details
    assert details is not None
    listed: list[dict[str, str]] = json.loads(encode(details["fields"]))
    return [field["field"] for field in listed]


def test_a_conversation_with_calls_is_stored_as_it_came() -> None:
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [CALL], "reasoning_content": "hm"},
        {"role": "tool", "content": "y", "tool_call_id": "c"},
    ]

    task = decode(encode(ASKED | {"messages": messages, "tools": [TOOL]}), SubmitTask)

    assert json.loads(encode(task.messages)) == messages
    assert json.loads(encode(task.tools)) == [TOOL]


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"city": "x"}', '{"city": "x"}'),
        ("{ }", "{ }"),
        ("", "{}"),
        (" \n", "{}"),
        ("null", "{}"),
        ('{"city": "Be', '{"arguments":"{\\"city\\": \\"Be"}'),
        ("[1]", '{"arguments":"[1]"}'),
        ('{"a": NaN}', '{"arguments":"{\\"a\\": NaN}"}'),
        ("[" * 9999, json.dumps({"arguments": "[" * 9999}, separators=(",", ":"))),
        ("Berlin – heute", '{"arguments":"Berlin – heute"}'),
    ],
    ids=lambda text: text[:12],
)
def test_the_arguments_of_an_old_call_are_an_object_whatever_came(arguments: str, read: str) -> None:
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    messages = [*ASKED["messages"], {"role": "assistant", "tool_calls": [call]}]

    task = decode(encode(ASKED | {"messages": messages}), SubmitTask)

    assert json.loads(encode(task.messages))[1]["tool_calls"] == [
        {**CALL, "function": {"name": "f", "arguments": read}}
    ]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"messages": [{"role": "assistant"}]}, ["messages[0].content"]),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, ["messages[0].tool_calls"]),
        ({"messages": [{"role": "tool", "content": "x"}]}, ["messages[0].tool_call_id"]),
        ({"tool_choice": "required"}, ["tool_choice"]),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, ["tool_choice"]),
        ({"tools": [TOOL, TOOL]}, ["tools"]),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, ["tools[0].function.name"]),
        ({"tools": [{"type": "function", "function": {"name": "a" * 129}}]}, ["tools[0].function.name"]),
        ({"tools": [TOOL], "logprobs": True}, ["logprobs"]),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, ["response_format"]),
        ({"top_logprobs": 2}, ["top_logprobs"]),
        ({"response_format": {"type": "json_schema"}}, ["response_format.json_schema"]),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object", "not": {}}}}},
            ["response_format.json_schema.schema.not"],
        ),
        ({"logit_bias": {"a": 1}}, ["logit_bias"]),
        ({"frequency_penalty": 3}, ["frequency_penalty"]),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(fields: dict[str, object], named: list[str]) -> None:
    assert problems(**fields) == named


def test_only_strict_tools_have_to_be_enforceable_as_a_whole() -> None:
    loose = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "not": {}}}}
    strict = {"type": "function", "function": {**loose["function"], "strict": True}}  # type: ignore[dict-item]  # a dict

    assert decode(encode(ASKED | {"tools": [loose]}), SubmitTask).tools
    assert problems(tools=[strict]) == ["tools[0].function.parameters.not"]


def test_tools_need_a_conversation() -> None:
    with pytest.raises(InvalidRequest, match="tools: a prompt as it is"):
        decode(encode({"model": "m", "prompt": "x", "tools": [TOOL]}), SubmitTask)


def test_an_attempt_is_told_all_that_a_submission_says_of_its_answer() -> None:
    fields: dict[str, object] = {"tools": [TOOL], "tool_choice": "required", "presence_penalty": 1, "stop": ["x"]}
    task = decode(encode(ASKED | fields), SubmitTask)

    execute = Execute(job_id="j", messages=task.messages, **shared(task))

    assert (execute.tools, execute.tool_choice, execute.presence_penalty) == (task.tools, "required", 1)
    assert shared(execute) == shared(task)


@pytest.mark.parametrize(
    ("fields", "goes_on"),
    [
        ({}, True),
        ({"logprobs": True, "presence_penalty": 1}, True),
        ({"response_format": {"type": "text"}}, True),
        ({"tools": [TOOL], "tool_choice": "none"}, True),
        ({"tools": [TOOL]}, False),
        ({"response_format": {"type": "json_object"}}, False),
        ({"reasoning_format": "auto"}, False),
    ],
    ids=str,
)
def test_text_goes_on_elsewhere_and_forms_do_not(fields: dict[str, object], goes_on: bool) -> None:
    assert can_go_on(decode(encode(ASKED | fields), SubmitTask)) is goes_on
