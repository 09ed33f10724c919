"""What a request of OpenAI's Responses API is as a job."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET

from llorch.errors import InvalidRequest
from llorch.wire.codec import decode
from llorch.wire.conversation import (
    Function,
    FunctionCall,
    Message,
    NamedFunction,
    NamedTool,
    ResponseFormat,
    Tool,
    ToolCall,
)
from llorch.wire.responses import ResponsesRequest
from llorch.wire.tasks import MAX_TIMEOUT_MS, ClientTask
from roles.orchestrator.dialects.responses import task

TOOL = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}


def asked(**fields: object) -> ResponsesRequest:
    return decode(json.dumps({"model": "m", "input": "hi", **fields}).encode(), ResponsesRequest)


def test_a_text_is_a_message_of_the_user_and_the_instructions_come_first() -> None:
    expected = ClientTask(
        model="m",
        messages=[Message("system", "be"), Message("user", "hi")],
        max_tokens=50,
        temperature=1.0,
        on_disconnect="cancel",
        timeout_ms=MAX_TIMEOUT_MS,
    )

    assert task(asked(instructions="be", store=False, metadata={}, truncation="auto", include=[]), room=50) == expected


def test_items_of_one_answer_are_one_message_of_the_model() -> None:
    items = [
        {"role": "developer", "content": "be"},
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so", "annotations": []}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc", "status": "completed"},
        {"type": "function_call_output", "call_id": "c", "output": "rain"},
        {"role": "assistant", "content": "It rains."},
    ]

    found = task(asked(input=items, tools=[TOOL], tool_choice={"type": "function", "name": "f"}), room=None)

    called = ToolCall("c", FunctionCall("f", "{}"))
    assert found.messages == [
        Message("system", "be"),
        Message("user", "hi"),
        Message("assistant", "so", tool_calls=[called], reasoning_content="hm"),
        Message("tool", "rain", tool_call_id="c"),
        Message("assistant", "It rains."),
    ]
    assert found.tools == [Tool(Function("f", "d", {"type": "object"}, strict=True))]
    assert found.tool_choice == NamedTool(NamedFunction("f"))


def test_parts_of_what_is_said_are_lines_and_those_of_an_answer_one_text() -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": text} for text in ("one", "two")]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": t} for t in ("so", " be")],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": " it"}]},
        {"type": "function_call", "call_id": "c", "name": "f"},
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_text", "text": text} for text in ("rain", "sun")],
        },
    ]

    found = task(asked(input=items), room=None)

    assert found.messages == [
        Message("user", "one\ntwo"),
        Message("assistant", "so be it", tool_calls=[ToolCall("c", FunctionCall("f", "{}"))]),
        Message("tool", "rain\nsun", tool_call_id="c"),
    ]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, (UNSET, UNSET)),
        ({"include": ["reasoning.encrypted_content"]}, (UNSET, UNSET)),
        ({"include": ["message.output_text.logprobs"]}, (True, UNSET)),
        ({"top_logprobs": 3}, (True, 3)),
    ],
)
def test_chances_are_told_to_who_asks_in_either_way(fields: dict[str, object], told: tuple[object, object]) -> None:
    found = task(asked(**fields), room=None)

    assert (found.logprobs, found.top_logprobs) == told


def test_forms_and_thoughts_arrive() -> None:
    found = task(
        asked(text={"format": {"type": "json_object"}}, reasoning={"effort": "low"}, max_output_tokens=5), room=9
    )

    assert (found.response_format, found.reasoning_format, found.max_tokens) == (
        ResponseFormat("json_object"),
        "auto",
        5,
    )


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"previous_response_id": "resp_1"}, ["previous_response_id"]),
        ({"store": True, "background": True}, ["background", "store"]),
        ({"tools": [{"type": "web_search"}]}, ["tools[0].type"]),
        ({"tool_choice": "required"}, ["tool_choice"]),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, ["input[0].content[0].image_url"]),
        ({"input": [{"role": "user", "content": "x"}, {"type": "item_reference"}]}, ["input[1].type"]),
        ({"input": [{"type": "function_call", "name": "f"}]}, ["input[0].call_id"]),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"not": {}}}}},
            ["text.format.json_schema.schema.not"],
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, object], named: list[str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        task(asked(**fields), room=None)

    assert refused.value.details is not None
    problems: Any = refused.value.details["fields"]
    assert [problem["field"] for problem in problems] == named
