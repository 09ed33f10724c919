"""Conversations of Ollama's API in terms of jobs: turns, pictures, calls of tools and their results. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from msgspec import UNSET

from llorch.wire.codec import FieldProblem, FieldProblems, encode
from llorch.wire.conversation import Content, FunctionCall, Message, TextPart, ToolCall
from llorch.wire.images import data_url
from llorch.wire.ollama import Call, Turn
from roles.orchestrator.dialects.openai import found, picture


def conversation(turns: Sequence[Turn], problems: list[FieldProblem]) -> list[Message]:
    """Return the turns of a conversation; calls get ids, results those of the calls that they answer, in order.

    A result whose call is not told any more is one all the same: clients cut off what is old, or keep no calls.
    """
    open_calls: list[ToolCall] = []
    messages: list[Message] = []
    for number, turn in enumerate(turns):
        if turn.role == "tool":
            call_id = _answered_call(open_calls, turn.tool_name) or f"call_{number}"
            messages.append(Message("tool", turn.content or "", tool_call_id=call_id))
            continue
        calls = [_open_call(f"call_{number}_{index}", call) for index, call in enumerate(turn.tool_calls or ())]
        open_calls += calls
        messages.append(found(problems, f"messages[{number}]", partial(_message, calls), turn))
    return messages


def _answered_call(open_calls: list[ToolCall], name: str | None) -> str:
    """Return the id of the call that a result answers, which is then not open any more; empty where none is."""
    if not open_calls:
        return ""
    answers = next((call for call in open_calls if call.function.name == name), open_calls[0])
    open_calls.remove(answers)
    return answers.id


def seen(text: str, images: Sequence[str]) -> Content:
    """Return what is said with pictures, which come before it, as Ollama has them."""
    pictures = [picture(data_url(image), f"[{number}]") for number, image in enumerate(images)]
    return [*pictures, *([TextPart(text)] if text else [])] if pictures else text


def _open_call(call_id: str, call: Call) -> ToolCall:
    return ToolCall(call_id, FunctionCall(call.function.name, encode(call.function.arguments).decode()))


def _message(calls: list[ToolCall], turn: Turn) -> Message:
    problems: list[FieldProblem] = []
    content = found(problems, "images", partial(seen, turn.content or ""), turn.images or ())
    if problems:
        raise FieldProblems(*problems)
    return Message(
        turn.role,
        UNSET if calls and not content else content,
        tool_calls=calls or UNSET,
        reasoning_content=turn.thinking or UNSET,
    )
