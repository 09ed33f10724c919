"""Grammars for what an answer must be: a JSON schema, or calls of tools. Pure.

Written for llguidance, which llama.cpp is built with: Lark's notation with whole JSON schemas in it.
Source: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from msgspec import UNSET

from llorch.wire.conversation import JsonSchema, NamedTool, Tool
from llorch.wire.json_schema import enforceable
from llorch.wire.tasks import Talk

HEADER = "%llguidance {}\n"
SIGN = "@"
"""What a probe has to begin with."""
COMPACT: Mapping[str, object] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": True,
}
"""One way to write each value: a small model would fill its whole answer with blanks where it may."""
MAX_CALLS = 16


def grammar_of(talk: Talk) -> str:
    """Return the grammar that an answer must follow; empty when it is free."""
    if must_call(talk):
        assert talk.tools is not UNSET
        tools = talk.tools
        if isinstance(talk.tool_choice, NamedTool):
            tools = [tool for tool in tools if tool.function.name == talk.tool_choice.function.name]
            return _calls(tools, several=False)
        return _calls(tools, several=talk.parallel_tool_calls is True)
    if talk.response_format is UNSET or talk.response_format.type == "text":
        return ""
    described = talk.response_format.json_schema
    schema: JsonSchema = {"type": "object"} if described is UNSET else described.schema
    return f"{HEADER}start: answer\nanswer: {_json(schema)}\n"


def must_call(talk: Talk) -> bool:
    """Tell whether the answer must be calls of tools and nothing else."""
    return bool(talk.tools) and (talk.tool_choice == "required" or isinstance(talk.tool_choice, NamedTool))


def probe(grammar: str) -> str:
    """Return a grammar that has `SIGN` before what *grammar* allows.

    llama.cpp goes on without a grammar that it cannot compile. The first character shows whether it did.
    """
    return grammar.replace("start: ", f'start: "{SIGN}" ', 1)


def _calls(tools: Sequence[Tool], *, several: bool) -> str:
    """Allow a list of calls, each `{"name": …, "arguments": …}`, which `inference.calls` takes apart again."""
    more = f'(", " call){{0,{MAX_CALLS - 1}}} ' if several else ""
    lines = [
        f'start: answer\nanswer: "[" call {more}"]"',
        "call: " + " | ".join(f"call_{n}" for n in range(len(tools))),
    ]
    for number, tool in enumerate(tools):
        schema: JsonSchema = {} if tool.function.parameters is UNSET else enforceable(tool.function.parameters)
        beginning = json.dumps(f'{{"name": {json.dumps(tool.function.name)}, "arguments": ')
        lines.append(f'call_{number}: {beginning} {_json({"type": "object", **schema})} "}}"')
    return HEADER + "\n".join(lines) + "\n"


def _json(schema: JsonSchema) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': COMPACT})}"
