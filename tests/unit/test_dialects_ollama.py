"""What a request of Ollama's API is as a job, and what a job is in its words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from llorch.errors import InvalidRequest, ModelNotFound
from llorch.wire.codec import decode, encode
from llorch.wire.conversation import (
    Function,
    FunctionCall,
    Message,
    ResponseFormat,
    SchemaFormat,
    TokenChance,
    TokenLogprob,
    Tool,
    ToolCall,
)
from llorch.wire.events import End, Token
from llorch.wire.ollama import Done, OllamaChat, OllamaGenerate
from llorch.wire.tasks import MAX_KEEP_ALIVE_S, MAX_SEED, MAX_TIMEOUT_MS, ClientTask, SubmitTask
from roles.orchestrator.dialects.ollama import (
    LOADED,
    Answered,
    Lines,
    chat_task,
    done,
    error_line,
    generate_task,
    kept_s,
    loading,
    rfc3339,
)

PLAIN = ClientTask(
    model="m",
    messages=[Message("user", "hi")],
    temperature=0.8,
    top_p=0.9,
    top_k=40,
    max_tokens=96,
    on_disconnect="cancel",
    timeout_ms=MAX_TIMEOUT_MS,
)
ENDED = End(tokens_in=7, tokens_out=3, stop_reason="eos", queue_ms=5, first_token_ms=12, decode_time_ms=30)


CALLED = {"function": {"name": "a", "arguments": {"x": [1, None]}}}


def result(name: str | None = None) -> dict[str, Any]:
    """Return the result of a call."""
    return {"role": "tool", "content": "r"} | ({} if name is None else {"tool_name": name})


def chat(**fields: object) -> SubmitTask:
    body = {"model": "x", "messages": [{"role": "user", "content": "hi"}], **fields}
    return chat_task(decode(json.dumps(body).encode(), OllamaChat), "m", room=96)


def generate(**fields: object) -> SubmitTask:
    body = {"model": "x", "prompt": "hi", **fields}
    return generate_task(decode(json.dumps(body).encode(), OllamaGenerate), "m", room=96)


def test_a_request_without_wishes_gets_ollamas_defaults_and_ends_with_its_reader() -> None:
    assert chat() == generate() == PLAIN
    assert chat(format="", think=False, tools=[], options={"seed": -1, "num_predict": -1, "temperature": None}) == PLAIN


def test_what_ollama_does_not_know_or_leaves_to_loading_is_ignored() -> None:
    assert chat(options={"num_ctx": 4096, "num_gpu": 1, "mirostat": 2, "nonsense": [1]}, template_hint="x") == PLAIN


def test_every_wish_arrives() -> None:
    options = {"temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "repeat_penalty": 1.2}
    found = generate(options={**options, "seed": 4, "num_predict": 9, "stop": "x"}, system="be")

    assert found == replace(
        PLAIN,
        messages=[Message("system", "be"), Message("user", "hi")],
        temperature=0,
        top_p=0.5,
        top_k=3,
        min_p=0.1,
        repetition_penalty=1.2,
        seed=4,
        max_tokens=9,
        stop=["x"],
    )
    assert chat(logprobs=True, top_logprobs=2) == replace(PLAIN, logprobs=True, top_logprobs=2)
    assert generate(raw=True, logprobs=True, top_logprobs=0).logprobs is True
    assert chat(logprobs=False, top_logprobs=2) == PLAIN
    assert chat(options={"seed": -2}).seed == MAX_SEED - 1
    assert generate(raw=True, system="not used").prompt == "hi"


def test_more_tokens_than_the_context_has_are_all_that_it_has() -> None:
    unknown = decode(b'{"model":"x","prompt":"hi","options":{"num_predict":-2}}', OllamaGenerate)

    assert chat(options={"num_predict": 1000}).max_tokens == 96
    assert generate_task(unknown, "m", room=None) == replace(PLAIN, max_tokens=UNSET)


def test_nothing_to_say_only_loads_the_model() -> None:
    assert (
        chat(messages=[]) == chat(messages=None) == generate(prompt="") == generate(prompt=None) == loading("m", UNSET)
    )
    assert chat(messages=[], keep_alive=0) == loading("m", 0)


def test_the_wish_how_long_to_keep_a_model_arrives_in_seconds() -> None:
    wished = [chat(keep_alive=wish).keep_alive for wish in (None, 0, "5m", -1, "-1m", "1000000h")]

    assert wished == [UNSET, 0, 300, -1, -1, MAX_KEEP_ALIVE_S]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"logprobs": True, "think": True}, ["logprobs"]),
        ({"logprobs": True, "tools": [{"function": {"name": "f"}}]}, ["logprobs"]),
        (
            {"messages": [{"role": "user", "images": ["AA=="]}, {"role": "user", "tool_calls": [CALLED]}]},
            ["messages[0].images[0]", "messages[1].tool_calls"],
        ),
        ({"messages": [{"role": "user", "tool_calls": [CALLED]}]}, ["messages[0].tool_calls"]),
        ({"format": {"type": "nonsense"}}, ["format.type"]),
        ({"tools": [{"function": {"name": "f"}}], "format": "json"}, ["response_format"]),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat(**fields)

    assert [problem["field"] for problem in (refused.value.details or {})["fields"]] == named  # type: ignore[attr-defined]  # a list of them


def test_forms_penalties_and_thoughts_arrive() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    found = chat(format=schema, think="high", options={"presence_penalty": 1, "frequency_penalty": -0.5})

    assert found == replace(
        PLAIN,
        response_format=ResponseFormat("json_schema", SchemaFormat(schema)),
        reasoning_format="auto",
        presence_penalty=1,
        frequency_penalty=-0.5,
    )
    assert generate(format="json", raw=True).response_format == ResponseFormat("json_object")


def test_tools_calls_and_their_results_arrive_each_result_with_the_id_of_its_call() -> None:
    other = {"function": {"name": "b", "arguments": {}}}
    turns = [
        {"role": "assistant", "thinking": "hm", "tool_calls": [CALLED, other, CALLED]},
        *(result("b"), result(), result("a")),
    ]
    offer = {"type": "function", "function": {"name": "a", "description": "d", "parameters": {"type": "object"}}}
    found = chat(messages=turns, tools=[offer])
    said, *results = found.messages or []

    assert found.tools == [Tool(Function("a", "d", {"type": "object"}))]
    assert (said.content, said.reasoning_content) == (UNSET, "hm")
    assert [(call.function.name, call.function.arguments) for call in said.tool_calls or []] == [
        ("a", '{"x":[1,null]}'),
        ("b", "{}"),
        ("a", '{"x":[1,null]}'),
    ]
    first, second, third = [call.id for call in said.tool_calls or []]
    assert [one.tool_call_id for one in results] == [second, first, third]


def test_calls_come_whole_and_thoughts_apart() -> None:
    lines = Lines("x", chat=True)
    calls = [ToolCall("1", FunctionCall("f", '{"a":1}')), ToolCall("2", FunctionCall("f", '{"a"'))]

    thought = json.loads(lines.piece(Token(i=0, t="", reasoning_content="hm"), now_ms=0))["message"]
    said = json.loads(lines.calls(calls, now_ms=0))["message"]

    assert thought == {"role": "assistant", "content": "", "thinking": "hm"}
    assert said["tool_calls"] == [{"function": {"name": "f", "arguments": {"a": 1}}}]
    assert lines.piece(Token(i=1, t=""), now_ms=0) == lines.calls([], now_ms=0) == b""


@pytest.mark.parametrize("top", [-1, 21])
def test_as_many_likely_tokens_as_ollama_tells_may_be_asked_for(top: int) -> None:
    with pytest.raises(InvalidRequest, match="top_logprobs"):
        chat(logprobs=True, top_logprobs=top)


def test_how_likely_tokens_were_stands_beside_what_was_said_whole_and_in_lines() -> None:
    alone, among = TokenLogprob("a", -0.5, [97]), TokenLogprob("b", -1.0, [98], [TokenChance("c", -0.1, [99])])

    line = json.loads(Lines("x", chat=True).piece(Token(i=0, t="ab", logprobs=[alone, among]), now_ms=0))
    silent = json.loads(Lines("x", chat=True).piece(Token(i=0, t="", logprobs=[alone]), now_ms=0))
    answer = Answered("ab", logprobs=[alone, among])
    whole = json.loads(encode(Lines("x", chat=False).whole(answer, done(ENDED, total_ns=0), now_ms=0)))

    first = {"token": "a", "logprob": -0.5, "bytes": [97]}
    second = {"token": "b", "logprob": -1.0, "bytes": [98]}
    second |= {"top_logprobs": [{"token": "c", "logprob": -0.1, "bytes": [99]}]}
    assert line["logprobs"] == whole["logprobs"] == [first, second]
    assert (silent["message"]["content"], silent["logprobs"]) == ("", [first])


@pytest.mark.parametrize("field", ["suffix", "template"])
def test_so_is_what_only_completions_have(field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{field}: not supported"):
        generate(**{field: "x"})


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        *[(None, None), ("", None), (0, 0.0), (-1, -1.0), ("300", 300.0)],
        *[("5m", 300.0), ("1h30m", 5400.0), ("-1m", -60.0), ("1.5s", 1.5), ("250ms", 0.25)],
    ],
)
def test_a_duration_is_what_go_reads_in_it(given: float | str | None, seconds: float | None) -> None:
    assert kept_s(given) == seconds


@pytest.mark.parametrize("given", ["soon", "5 m", "m", "1h-3m", "9" * 70 + "s"])
def test_what_is_no_duration_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest, match="keep_alive"):
        kept_s(given)


def test_times_are_in_nanoseconds() -> None:
    assert done(ENDED, total_ns=99) == Done(
        done_reason="stop",
        total_duration=99,
        load_duration=5_000_000,
        prompt_eval_count=7,
        prompt_eval_duration=7_000_000,
        eval_count=3,
        eval_duration=30_000_000,
    )
    assert done(replace(ENDED, stop_reason="max_tokens"), total_ns=0).done_reason == "length"
    assert rfc3339(1_500) == "1970-01-01T00:00:01.500Z"


def test_an_answer_is_lines_of_which_the_last_tells_the_rest() -> None:
    lines = Lines("x:latest", chat=True)
    at = {"model": "x:latest", "created_at": "1970-01-01T00:00:00.000Z"}

    first = json.loads(lines.piece(Token(i=0, t="hi"), now_ms=0))
    last = json.loads(lines.last(done(ENDED, total_ns=1), now_ms=0))
    whole = Lines("x", chat=False).whole(Answered("hi"), Done(done_reason="load"), now_ms=0)

    assert first == {**at, "done": False, "message": {"role": "assistant", "content": "hi"}}
    assert (last["done"], last["done_reason"], last["eval_count"], last["message"]["content"]) == (True, "stop", 3, "")
    assert (whole.done_reason, getattr(whole, "response", None)) == ("load", "hi")
    assert "total_duration" not in json.loads(encode(Lines("x", chat=True).whole(Answered(), LOADED, now_ms=0)))
    assert json.loads(error_line(ModelNotFound("no such model"))) == {"error": "no such model"}
