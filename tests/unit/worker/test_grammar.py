"""Which grammar an answer has to follow."""

from __future__ import annotations

from llorch.wire.conversation import Function, NamedFunction, NamedTool, ResponseFormat, SchemaFormat, Tool
from llorch.wire.tasks import Talk
from roles.worker.backend.grammar import HEADER, SIGN, grammar_of, must_call, probe

F = Tool(Function("f", parameters={"type": "object", "$defs": {}, "not": {}}))
G = Tool(Function("g"))


def test_free_answers_have_none() -> None:
    for talk in (
        Talk(),
        Talk(response_format=ResponseFormat("text")),
        Talk(tools=[F]),
        Talk(tools=[F], tool_choice="none"),
    ):
        assert grammar_of(talk) == ""
        assert not must_call(talk)


def test_a_schema_goes_in_as_it_is_with_one_way_to_write_it() -> None:
    grammar = grammar_of(Talk(response_format=ResponseFormat("json_schema", SchemaFormat({"type": "null"}))))

    assert grammar.startswith(HEADER + 'start: answer\nanswer: %json {"type": "null", "x-guidance": {')
    assert '"whitespace_flexible": false' in grammar


def test_an_object_is_any_object() -> None:
    assert '%json {"type": "object", ' in grammar_of(Talk(response_format=ResponseFormat("json_object")))


def test_calls_are_one_of_the_tools_or_the_one_that_is_named() -> None:
    any_call = grammar_of(Talk(tools=[F, G], tool_choice="required"))
    several = grammar_of(Talk(tools=[F, G], tool_choice="required", parallel_tool_calls=True))
    named = grammar_of(Talk(tools=[F, G], tool_choice=NamedTool(NamedFunction("g")), parallel_tool_calls=True))

    assert 'answer: "[" call "]"\ncall: call_0 | call_1\n' in any_call
    assert 'call_0: "{\\"name\\": \\"f\\", \\"arguments\\": " %json {"type": "object", "$defs": {}, "x-' in any_call
    assert 'answer: "[" call (", " call){0,15} "]"' in several
    assert "call: call_0\n" in named
    assert '\\"g\\"' in named
    assert '\\"f\\"' not in named


def test_a_probe_asks_for_a_sign_before_the_same() -> None:
    grammar = grammar_of(Talk(response_format=ResponseFormat("json_object")))

    assert probe(grammar) == grammar.replace("start: answer", f'start: "{SIGN}" answer')
