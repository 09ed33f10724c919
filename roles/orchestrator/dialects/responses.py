"""What a request of OpenAI's Responses API asks for, in terms of jobs. Pure; answers are in `responses_replies`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec import UNSET, UnsetType

from llorch.wire.codec import FieldProblem, FieldProblems, invalid
from llorch.wire.conversation import (
    FunctionCall,
    Message,
    NamedFunction,
    NamedTool,
    ResponseFormat,
    SchemaFormat,
    Tool,
    ToolCall,
    ToolChoice,
)
from llorch.wire.responses import Item, NamedChoice, OfferedFunction, ResponsesRequest, TextFormat
from llorch.wire.tasks import SubmitTask
from roles.orchestrator.dialects.openai import content_of, found, given, joined, limited, offered, submission

LOGPROBS = "message.output_text.logprobs"
STATELESS = "not supported: nothing is kept between requests; send the whole conversation"


def task(asked: ResponsesRequest, *, room: int | None) -> SubmitTask:
    """Return the job that a request asks for; *room* is what `openai.chat_tasks` says of it.

    Raises:
        InvalidRequest: It asks for what llorch cannot do; every such field is named.
    """
    problems = _kept(asked)
    messages = found(problems, "input", _messages, asked.input)
    tools = [found(problems, f"tools[{number}]", _tool, tool) for number, tool in enumerate(asked.tools or ())]
    choice = found(problems, "tool_choice", _choice, asked.tool_choice)
    formed = found(problems, "text.format", _format, None if asked.text is None else asked.text.format)
    if problems:
        raise invalid(problems)
    instructions = [Message("system", asked.instructions)] if asked.instructions else []
    thinks = asked.reasoning is not None and asked.reasoning.effort not in (None, "none")
    return submission(
        {
            "model": asked.model,
            "messages": [*instructions, *messages],
            "max_tokens": limited(asked.max_output_tokens, room=room),
            "temperature": 1.0 if asked.temperature is None else asked.temperature,
            "top_p": 1.0 if asked.top_p is None else asked.top_p,
            "logprobs": True if asked.top_logprobs is not None or LOGPROBS in (asked.include or ()) else UNSET,
            "top_logprobs": given(asked.top_logprobs),
            "tools": tools or UNSET,
            "tool_choice": choice if tools or choice not in ("none", "auto") else UNSET,
            "parallel_tool_calls": given(asked.parallel_tool_calls),
            "response_format": formed,
            "reasoning_format": "auto" if thinks else UNSET,
            "priority": asked.priority,
            "session_id": asked.session_id,
        }
    )


def _kept(asked: ResponsesRequest) -> list[FieldProblem]:
    wanted = {
        "previous_response_id": asked.previous_response_id is not None,
        "conversation": asked.conversation is not None,
        "prompt": asked.prompt is not None,
        "background": bool(asked.background),
        "store": bool(asked.store),
    }
    return [FieldProblem(name, STATELESS) for name, is_wanted in wanted.items() if is_wanted]


@dataclass(slots=True)
class _Answer:
    """Items of one answer of the model, which a chat template knows as one message."""

    text: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def message(self) -> list[Message]:
        """Return the message, if there is any."""
        if not (self.text or self.calls):
            return []
        content = UNSET if self.calls and not self.text else "".join(self.text)
        thought = "".join(self.thoughts) or UNSET
        return [Message("assistant", content, tool_calls=self.calls or UNSET, reasoning_content=thought)]


def _messages(said: str | Sequence[Item]) -> list[Message]:
    if isinstance(said, str):
        return [Message("user", said)]
    messages: list[Message] = []
    answer = _Answer()
    for number, item in enumerate(said):
        try:
            if item.role == "assistant" or item.type in {"reasoning", "function_call"}:
                _add(answer, item)
                continue
            messages += [*answer.message(), _message(item)]
            answer = _Answer()
        except FieldProblems as error:
            inner = [(f".{problem.field}" if problem.field else "", problem.problem) for problem in error.problems]
            raise FieldProblems(*(FieldProblem(f"[{number}]{place}", problem) for place, problem in inner)) from None
    return messages + answer.message()


def _add(answer: _Answer, item: Item) -> None:
    if item.type == "function_call":
        if item.call_id is None or item.name is None:
            raise FieldProblems(FieldProblem("call_id", "required, as is name"))
        answer.calls.append(ToolCall(item.call_id, FunctionCall(item.name, item.arguments or "")))
    elif item.type == "reasoning":
        answer.thoughts += [part.text for part in item.content or () if not isinstance(part, str)]
    else:
        said = joined(item.content or "", between="")
        if not isinstance(said, str):
            raise FieldProblems(FieldProblem("content", "only a message of role user has pictures"))
        answer.text.append(said)


def _message(item: Item) -> Message:
    if item.type == "function_call_output":
        return Message("tool", joined(item.output or ""), tool_call_id=given(item.call_id))
    if item.type != "message" or item.role is None:
        raise FieldProblems(FieldProblem("type", f"an item of type {item.type[:40]!r} is not supported"))
    if item.content is None:
        raise FieldProblems(FieldProblem("content", "required"))
    role: Literal["system", "user"] = "user" if item.role == "user" else "system"
    return Message(role, content_of(item.content))


def _tool(tool: OfferedFunction) -> Tool:
    if tool.type != "function" or tool.name is None:
        raise FieldProblems(FieldProblem("type", "only functions are supported"))
    return offered(tool.name, tool.description, tool.parameters, strict=tool.strict)


def _choice(choice: Literal["none", "auto", "required"] | NamedChoice | None) -> ToolChoice | UnsetType:
    if isinstance(choice, NamedChoice):
        if choice.type != "function" or choice.name is None:
            raise FieldProblems(FieldProblem("", "only functions are supported"))
        return NamedTool(NamedFunction(choice.name))
    return UNSET if choice is None else choice


def _format(asked: TextFormat | None) -> ResponseFormat | UnsetType:
    if asked is None or asked.type == "text":
        return UNSET
    return ResponseFormat(asked.type, UNSET if asked.schema is None else SchemaFormat(asked.schema))
