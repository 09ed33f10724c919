"""What a request of OpenAI's API is as jobs, and what a job is in its words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET

from llorch.errors import InvalidRequest
from llorch.wire.codec import decode, encode, reread
from llorch.wire.conversation import (
    Function,
    FunctionCall,
    Message,
    NamedFunction,
    NamedTool,
    ResponseFormat,
    SchemaFormat,
    Tool,
    ToolCall,
)
from llorch.wire.openai import ChatRequest, CompletionRequest
from llorch.wire.tasks import MAX_TIMEOUT_MS, ClientTask, SubmitTask
from roles.orchestrator.dialects.openai import chat_tasks, completion_tasks

CALL = {"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": None}}
USER = {"role": "user", "content": "hi"}


def chat(**fields: object) -> ChatRequest:
    return decode(json.dumps({"model": "m", "messages": [USER], **fields}).encode(), ChatRequest)


def completion(**fields: object) -> CompletionRequest:
    return decode(json.dumps({"model": "m", "prompt": "hi", **fields}).encode(), CompletionRequest)


def problems(error: InvalidRequest) -> list[str]:
    assert error.details is not None
    fields: Any = error.details["fields"]
    return [field["field"] for field in fields]


def test_a_chat_without_wishes_gets_openais_defaults_and_ends_with_its_reader() -> None:
    assert chat_tasks(chat(), room=4096) == [
        ClientTask(
            model="m",
            messages=[Message("user", "hi")],
            temperature=1.0,
            max_tokens=4096,
            on_disconnect="cancel",
            timeout_ms=MAX_TIMEOUT_MS,
        )
    ]


def test_every_wish_arrives() -> None:
    wishes = {"temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1, "seed": 9}
    more = {"stop": "x", "max_tokens": 5, "priority": "batch", "session_id": "s"}

    [task] = completion_tasks(completion(**wishes, **more), room=None)

    expected = ClientTask(
        model="m",
        prompt="hi",
        on_disconnect="cancel",
        timeout_ms=MAX_TIMEOUT_MS,
        **{**wishes, **more, "stop": ["x"]},  # type: ignore[arg-type]
    )
    assert task == expected


def test_several_answers_are_several_jobs_with_seeds_of_their_own() -> None:
    tasks = completion_tasks(completion(prompt=["a", "b"], n=2, seed=2**63 - 1), room=None)

    assert [(task.prompt, task.seed) for task in tasks] == [
        ("a", 2**63 - 1),
        ("a", 2**63),
        ("b", 2**63 + 1),
        ("b", 2**63 + 2),
    ]


@pytest.mark.parametrize(
    ("asked", "room", "expected"),
    [
        ({}, None, UNSET),
        ({}, 50, 50),
        ({"max_completion_tokens": 9}, 50, 9),
        ({"max_tokens": 32_000}, 50, 50),
        ({"max_tokens": 32_000}, None, 32_000),
    ],
)
def test_a_chat_gets_what_it_asks_for_or_what_fits(asked: dict[str, object], room: int, expected: object) -> None:
    [task] = chat_tasks(chat(**asked), room=room)

    assert task.max_tokens == expected


def test_clients_may_stop_at_more_texts_than_llorchs_own_api_takes() -> None:
    stops = [f"<{number}>" for number in range(64)]

    [task] = chat_tasks(chat(stop=stops), room=None)

    assert reread(encode(task), ClientTask).stop == stops
    with pytest.raises(InvalidRequest, match="stop"):
        decode(encode(task), SubmitTask)


@pytest.mark.parametrize(("asked", "room", "expected"), [({}, None, 16), ({}, 9, 9), ({"max_tokens": 99}, 50, 50)])
def test_a_completion_gets_what_it_asks_for_or_what_fits(asked: dict[str, object], room: int, expected: int) -> None:
    [task] = completion_tasks(completion(**asked), room=room)

    assert task.max_tokens == expected


def test_a_message_may_come_in_parts_of_text_and_from_a_developer() -> None:
    parts = [{"type": "text", "text": text} for text in ("a", "", "b")]

    [task] = chat_tasks(
        chat(messages=[{"role": "developer", "content": "be"}, {"role": "user", "content": parts}]), room=1
    )

    assert task.messages == [Message("system", "be"), Message("user", "a\nb")]


@pytest.mark.parametrize(("arguments", "read"), [("", "{}"), ('{"a": ', '{"arguments":"{\\"a\\": "}'), ("{}", "{}")])
def test_an_old_call_has_an_object_of_arguments_whatever_a_client_has_kept(arguments: str, read: str) -> None:
    kept = {**CALL, "function": {"name": "f", "arguments": arguments}}

    [task] = chat_tasks(chat(messages=[USER, {"role": "assistant", "content": None, "tool_calls": [kept]}]), room=1)

    assert task.messages == [
        Message("user", "hi"),
        Message("assistant", tool_calls=[ToolCall("c", FunctionCall("f", read))]),
    ]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].type"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}},
            "response_format.json_schema.schema.not",
        ),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tools": [TOOL], "logprobs": True}, "logprobs"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat_tasks(chat(**fields), room=None)

    assert problems(refused.value) == [named]


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "tool_choice": "none", "logprobs": False, "logit_bias": {}, "presence_penalty": 0},
        {"response_format": {"type": "text"}, "modalities": ["text"], "n": None, "stream": None, "seed": None},
        {"user": "me", "metadata": {"a": "b"}, "store": False, "reasoning_effort": "none", "something": {"new": 1}},
    ],
)
def test_neutral_and_unknown_fields_change_nothing(fields: dict[str, object]) -> None:
    assert chat_tasks(chat(**fields), room=5) == chat_tasks(chat(), room=5)


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1], [2]], ["a", ""]])
def test_prompts_that_are_not_texts_are_refused(prompt: list[object]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        completion_tasks(completion(prompt=prompt), room=None)

    assert problems(refused.value) == ["prompt"]


def test_tools_and_what_they_gave_arrive() -> None:
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "rain"}]},
    ]
    named = {"type": "function", "function": {"name": "f"}}

    [task] = chat_tasks(chat(messages=messages, tools=[TOOL], tool_choice=named, parallel_tool_calls=False), room=9)

    assert task.messages == [
        Message("user", "hi"),
        Message("assistant", tool_calls=[ToolCall("c", FunctionCall("f", "{}"))]),
        Message("tool", "rain", tool_call_id="c"),
    ]
    assert task.tools == [Tool(Function("f", parameters={"type": "object"}))]
    assert (task.tool_choice, task.parallel_tool_calls) == (NamedTool(NamedFunction("f")), False)


def test_forms_and_odds_arrive() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "null"}, "strict": True}}

    [formed] = chat_tasks(chat(response_format=schema, reasoning_effort="low"), room=9)
    [likely] = chat_tasks(chat(logprobs=True, top_logprobs=2, logit_bias={"5": -1}, presence_penalty=0.5), room=9)
    [plain] = completion_tasks(completion(logprobs=0), room=None)

    assert formed.response_format == ResponseFormat("json_schema", SchemaFormat({"type": "null"}))
    assert formed.reasoning_format == "auto"
    assert (likely.logprobs, likely.top_logprobs, likely.logit_bias, likely.presence_penalty) == (
        True,
        2,
        {"5": -1},
        0.5,
    )
    assert (plain.logprobs, plain.top_logprobs) == (True, 0)
