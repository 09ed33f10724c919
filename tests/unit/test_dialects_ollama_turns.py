"""What the turns of a conversation of Ollama's API are as messages."""

from __future__ import annotations

import json
from typing import Any

from llorch.wire.codec import FieldProblem, decode
from llorch.wire.conversation import Message
from llorch.wire.ollama import OllamaChat
from roles.orchestrator.dialects.ollama_turns import conversation

CALLED = {"function": {"name": "a", "arguments": {"x": [1, None]}}}


def result(name: str | None = None) -> dict[str, Any]:
    """Return the result of a call."""
    return {"role": "tool", "content": "r"} | ({} if name is None else {"tool_name": name})


def messages(*turns: dict[str, Any]) -> list[Message]:
    asked = decode(json.dumps({"model": "m", "messages": turns}).encode(), OllamaChat)
    problems: list[FieldProblem] = []
    found = conversation(asked.messages or [], problems)
    assert problems == []
    return found


def ids(said: Message) -> list[str]:
    return [call.id for call in said.tool_calls or ()]


def test_a_result_answers_the_next_open_call_of_its_name() -> None:
    other = {"function": {"name": "b", "arguments": {}}}
    called = {"role": "assistant", "tool_calls": [CALLED, other, CALLED]}

    said, *results = messages(called, result("b"), result(), result("a"))

    first, second, third = ids(said)
    assert [one.tool_call_id for one in results] == [second, first, third]


def test_a_result_needs_no_call_of_its_name_before_it() -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [CALLED, CALLED]}

    said, *results = messages(called, result("other"), result("a"), result("a"))

    first, second = ids(said)
    assert [one.tool_call_id for one in results] == [first, second, "call_3"]


def test_a_result_needs_no_call_at_all() -> None:
    found = messages({"role": "assistant", "content": ""}, {"role": "tool", "content": "5"})

    assert found == [Message("assistant", ""), Message("tool", "5", tool_call_id="call_1")]


def test_a_turn_without_content_says_nothing() -> None:
    turns = [{"role": role, "content": None} for role in ("system", "user", "assistant", "tool")]

    assert [message.content for message in messages(*turns)] == ["", "", "", ""]
