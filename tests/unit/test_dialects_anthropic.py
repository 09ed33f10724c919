"""What a request of Anthropic's API is as a job."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET

from llorch.errors import InvalidRequest
from llorch.wire.anthropic import MessagesRequest
from llorch.wire.codec import decode
from llorch.wire.conversation import Function, FunctionCall, Message, NamedFunction, NamedTool, Tool, ToolCall
from llorch.wire.tasks import MAX_TIMEOUT_MS, ClientTask
from roles.orchestrator.dialects.anthropic import count, stop_sequence, task

TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}


def asked(**fields: object) -> MessagesRequest:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **fields}
    return decode(json.dumps(body).encode(), MessagesRequest)


def test_a_message_without_wishes_gets_anthropics_defaults_and_ends_with_its_reader() -> None:
    expected = ClientTask(
        model="m",
        messages=[Message("user", "hi")],
        max_tokens=9,
        temperature=1.0,
        on_disconnect="cancel",
        timeout_ms=MAX_TIMEOUT_MS,
    )

    assert task(asked(), room=None) == expected
    assert (
        task(asked(metadata={"user_id": "u"}, thinking={"type": "disabled"}, tools=[], service_tier="auto"), room=None)
        == expected
    )


@pytest.mark.parametrize(
    ("asked_for", "room", "expected"), [(32_000, 4_096, 4_096), (9, 4_096, 9), (32_000, None, 32_000)]
)
def test_who_was_made_for_larger_models_gets_what_fits(asked_for: int, room: int | None, expected: int) -> None:
    assert task(asked(max_tokens=asked_for), room=room).max_tokens == expected


def test_every_wish_arrives() -> None:
    found = task(asked(system="be", temperature=0, top_p=0.5, top_k=3, stop_sequences=["x", "y"]), room=None)

    assert found == ClientTask(
        model="m",
        messages=[Message("system", "be"), Message("user", "hi")],
        max_tokens=9,
        temperature=0,
        top_p=0.5,
        top_k=3,
        stop=["x", "y"],
        on_disconnect="cancel",
        timeout_ms=MAX_TIMEOUT_MS,
    )


def test_a_tool_may_have_the_longest_name_that_anthropic_allows() -> None:
    name = f"mcp__plugin_{'n' * 116}"
    use = {"type": "tool_use", "id": "c", "name": name, "input": {}}
    turns = [{"role": "assistant", "content": [use]}]
    choice = {"type": "tool", "name": name}

    found = task(asked(tools=[{**TOOL, "name": name}], tool_choice=choice, messages=turns), room=None)

    assert len(name) == 128
    assert found.messages == [Message("assistant", tool_calls=[ToolCall("c", FunctionCall(name, "{}"))])]
    assert found.tools == [Tool(Function(name, "d", {"type": "object"}))]
    assert found.tool_choice == NamedTool(NamedFunction(name))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tools": [{"name": "web_search", "type": "web_search_20250305"}]}, ["tools[0].type"]),
        ({"tool_choice": {"type": "any"}}, ["tool_choice"]),
        ({"tool_choice": {"type": "tool"}, "tools": [TOOL]}, ["tool_choice.name"]),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, ["messages[0].content[0].source"]),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"not": {}}}}},
            ["output_config.format.json_schema.schema.not"],
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, object], named: list[str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        task(asked(**fields), room=None)

    assert refused.value.details is not None
    problems: Any = refused.value.details["fields"]
    assert [problem["field"] for problem in problems] == named


def test_blocks_of_what_is_said_are_lines_and_those_of_an_answer_one_text() -> None:
    def texts(*said: str) -> list[dict[str, object]]:
        return [{"type": "text", "text": text} for text in said]

    use = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    answer = [*texts("Let me"), {"type": "thinking", "thinking": "hm"}, *texts(" see."), use]
    result = {"type": "tool_result", "tool_use_id": "c", "content": texts("rain", "sun")}
    turns = [
        {"role": "user", "content": texts("one", "", "two")},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": [result]},
    ]

    found = task(asked(system=texts("be", "kind"), messages=turns), room=None)

    assert found.messages == [
        Message("system", "be\nkind"),
        Message("user", "one\ntwo"),
        Message(
            "assistant",
            "Let me see.",
            tool_calls=[ToolCall("c", FunctionCall("f", "{}"))],
            reasoning_content="hm",
        ),
        Message("tool", "rain\nsun", tool_call_id="c"),
    ]


def test_calls_and_what_they_gave_become_messages_of_their_own() -> None:
    result = {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "rain"}]}
    turns = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
            ],
        },
        {"role": "user", "content": [result, {"type": "text", "text": "and?"}]},
        {"role": "user", "content": [{**result, "content": "sun"}]},
    ]

    found = task(asked(messages=turns, tools=[TOOL]), room=None)

    assert found.messages == [
        Message("user", "hi"),
        Message("assistant", tool_calls=[ToolCall("c", FunctionCall("f", '{"a": 1}'))], reasoning_content="hm"),
        Message("tool", "rain", tool_call_id="c"),
        Message("user", "and?"),
        Message("tool", "sun", tool_call_id="c"),
    ]
    assert found.tools == [Tool(Function("f", "d", {"type": "object"}))]
    assert count(asked(messages=turns, tools=[TOOL])).tools == found.tools
    assert count(asked(messages=turns, tools=[TOOL], tool_choice={"type": "none"})).tools is UNSET


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto", "disable_parallel_tool_use": True}, ("auto", False)),
        ({"type": "any"}, ("required", UNSET)),
        ({"type": "tool", "name": "f"}, (NamedTool(NamedFunction("f")), UNSET)),
    ],
)
def test_choices_of_tools_have_their_own_words(choice: dict[str, object], expected: tuple[object, object]) -> None:
    found = task(asked(tools=[TOOL], tool_choice=choice), room=None)

    assert (found.tool_choice, found.parallel_tool_calls) == expected


def test_thinking_is_told_apart() -> None:
    assert task(asked(thinking={"type": "enabled", "budget_tokens": 1024}), room=None).reasoning_format == "auto"


@pytest.mark.parametrize(
    ("stops", "reason", "told"),
    [(["x"], "stop_sequence", "x"), (["x"], "eos", None), (["x", "y"], "stop_sequence", None), (None, "eos", None)],
)
def test_a_stop_sequence_is_told_where_there_can_be_no_doubt(
    stops: list[str] | None, reason: str, told: str | None
) -> None:
    assert stop_sequence(stops, reason) == told
