"""What a request of Anthropic's Messages API asks for, in terms of jobs. Pure; answers are in `anthropic_replies`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from llorch.wire.anthropic import Block, CountRequest, MessagesRequest, OfferedTool, Turn
from llorch.wire.anthropic import ToolChoice as AskedChoice
from llorch.wire.codec import FieldProblem, FieldProblems, invalid
from llorch.wire.conversation import (
    Content,
    FunctionCall,
    ImagePart,
    Message,
    NamedFunction,
    NamedTool,
    ResponseFormat,
    SchemaFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    whole_text,
)
from llorch.wire.images import data_url
from llorch.wire.tasks import SubmitTask
from llorch.wire.workers import CountTokens
from roles.orchestrator.dialects.openai import found, limited, offered, picture, submission

THOUGHTS = frozenset({"thinking", "redacted_thinking"})


def task(asked: MessagesRequest, *, room: int | None) -> SubmitTask:
    """Return the job that a request asks for; its default temperature is Anthropic's, 1.

    *room* is what `openai.chat_tasks` says of it.

    Raises:
        InvalidRequest: It asks for what llorch cannot do; every such field is named.
    """
    return submission(
        {
            **_conversation(asked),
            "model": asked.model,
            "max_tokens": limited(asked.max_tokens, room=room),
            "temperature": 1.0 if asked.temperature is None else asked.temperature,
            "top_p": 1.0 if asked.top_p is None else asked.top_p,
            "top_k": asked.top_k or 0,
            "stop": asked.stop_sequences or [],
        }
    )


def count(asked: CountRequest) -> CountTokens:
    """Return what a worker is asked to count; raises as `task` does."""
    told = _conversation(asked)
    tools = UNSET if told["tool_choice"] == "none" else told["tools"]
    return CountTokens(prompt=UNSET, messages=told["messages"], tools=tools)


def _conversation(asked: CountRequest) -> dict[str, Any]:
    problems: list[FieldProblem] = []
    turns = [("system", Turn("system", asked.system))] if asked.system else []
    turns += [(f"messages[{number}]", turn) for number, turn in enumerate(asked.messages)]
    said = [found(problems, field, _messages, turn) for field, turn in turns]
    tools = [found(problems, f"tools[{number}]", _tool, tool) for number, tool in enumerate(asked.tools or ())]
    wanted = None if asked.output_config is None else asked.output_config.format
    formed: ResponseFormat | UnsetType = UNSET
    if wanted is not None:
        formed = found(problems, "output_config.format", _format, wanted.schema)
    choice = found(problems, "tool_choice", _choice, asked.tool_choice)
    if problems:
        raise invalid(problems)
    thinks = asked.thinking is not None and asked.thinking.type != "disabled"
    one = None if asked.tool_choice is None else asked.tool_choice.disable_parallel_tool_use
    return {
        "messages": [message for messages in said for message in messages],
        "tools": tools or UNSET,
        "tool_choice": choice if tools or choice not in ("none", "auto") else UNSET,
        "parallel_tool_calls": UNSET if one is None else not one,
        "response_format": formed,
        "reasoning_format": "auto" if thinks else UNSET,
    }


def _messages(turn: Turn) -> list[Message]:
    """Return a turn as messages: what tools gave are messages of their own, before what is said with it.

    The blocks of an answer are one text that thoughts and calls have come between.
    """
    if isinstance(turn.content, str):
        return [Message(turn.role, turn.content)]
    parts: list[TextPart | ImagePart] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for number, block in enumerate(turn.content):
        if block.type == "text":
            parts.append(TextPart(block.text))
        elif block.type == "image" and turn.role == "user":
            parts.append(_picture(block, f"content[{number}].source"))
        elif block.type == "tool_use" and turn.role == "assistant":
            calls.append(ToolCall(block.id, FunctionCall(block.name, json.dumps(block.input or {}))))
        elif block.type == "tool_result" and turn.role == "user":
            results.append(Message("tool", whole_text(_texts(block)), tool_call_id=block.tool_use_id))
        elif block.type in THOUGHTS and turn.role == "assistant":
            thoughts.append(block.thinking)
        else:
            raise _foreign(block.type)
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    content: Content = "".join(texts) if turn.role == "assistant" else whole_text(texts)
    if any(isinstance(part, ImagePart) for part in parts):
        content = parts
    if results and not content:
        return results
    said = Message(
        turn.role,
        UNSET if calls and not content else content,
        tool_calls=calls or UNSET,
        reasoning_content="".join(thoughts) or UNSET,
    )
    return [*results, said]


def _picture(block: Block, field: str) -> ImagePart:
    if block.source is None or block.source.type != "base64":
        raise FieldProblems(FieldProblem(field, "pictures are not fetched from elsewhere; send it as base64"))
    return picture(data_url(block.source.data), field)


def _texts(result: Block) -> Iterator[str]:
    if isinstance(result.content, str):
        yield result.content
        return
    for part in result.content or ():
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise _foreign(str(part.get("type")))
        yield part["text"]


def _foreign(kind: str) -> FieldProblems:
    return FieldProblems(FieldProblem("", f"a part of type {kind[:40]!r} is not supported here"))


def _tool(tool: OfferedTool) -> Tool:
    if tool.type not in (None, "custom"):
        raise FieldProblems(FieldProblem("type", "only tools that the client runs are supported"))
    return offered(tool.name, tool.description, tool.input_schema, strict=tool.strict)


def _choice(choice: AskedChoice | None) -> ToolChoice | UnsetType:
    if choice is None:
        return UNSET
    if choice.type == "tool":
        if choice.name is None:
            raise FieldProblems(FieldProblem("name", "required"))
        return NamedTool(NamedFunction(choice.name))
    return "required" if choice.type == "any" else choice.type


def _format(schema: dict[str, Any]) -> ResponseFormat:
    return ResponseFormat("json_schema", SchemaFormat(schema))


def stop_sequence(stops: Sequence[str] | None, reason: str) -> str | None:
    """Return the sequence that ended a text, where there can be no doubt which."""
    stops = stops or []
    return stops[0] if reason == "stop_sequence" and len(stops) == 1 else None
