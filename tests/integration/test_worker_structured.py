"""What a worker's real engine does beyond plain text: JSON by schema, calls that must be, penalties, probabilities."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import pytest_asyncio

from llorch.sse import Event
from llorch.wire.conversation import ToolCallDelta
from tests.support import scribes
from tests.support.workers import Worker, last, text_of, tokens_of, worker

pytestmark = pytest.mark.asyncio(loop_scope="module")
HAIKU = Path(__file__).parents[2] / "llorch/assets/haiku.gguf"
POEM = "Write a haiku about rain"
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": POEM}], "max_tokens": 200, "seed": 7}
PLACE = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
SCHEMAS: list[dict[str, Any]] = [
    PLACE,
    {"enum": ["yes", "no", 3, None]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    {"oneOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]},
    {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"},
    {"type": "string", "format": "date"},
    {"$ref": "#/$defs/node", "$defs": {"node": {"anyOf": [{"const": 1}, {"type": "array", "maxItems": 1}]}}},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "multipleOf": 0.5},
]
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": PLACE}}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False, "maxProperties": 0}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "x"}'}}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": NOTHING}}


@pytest_asyncio.fixture(name="haiku", scope="module", loop_scope="module")
async def _haiku() -> AsyncIterator[Worker]:
    async with worker(HAIKU, slots=1) as running:
        yield running


def schema_format(schema: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def calls_of(events: list[Event]) -> list[dict[str, Any]]:
    """Return the calls that events tell, put together."""
    deltas: list[ToolCallDelta] = [delta for token in tokens_of(events) for delta in token.tool_calls or ()]
    calls: list[dict[str, Any]] = []
    for delta in deltas:
        if delta.id:
            calls.append({"id": delta.id, "name": delta.function.name, "arguments": ""})
        calls[delta.index]["arguments"] += delta.function.arguments
    return calls


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: next(iter(schema.values())).__str__()[:20])
async def test_every_schema_gives_json_that_follows_it(haiku: Worker, schema: dict[str, Any]) -> None:
    for seed in range(3):
        name = f"{SCHEMAS.index(schema)}-{seed}"
        events = await haiku.execute(name, **ASKED | {"seed": seed}, response_format=schema_format(schema))

        assert last(events)["stop_reason"] == "eos"
        assert jsonschema_rs.is_valid(schema, json.loads(text_of(events)))


async def test_a_json_object_is_one_up_to_where_it_was_cut(haiku: Worker) -> None:
    text = await haiku.text("object", **ASKED, response_format={"type": "json_object"})

    assert text.startswith("{")


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "strin"}, "schema.type"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "schema.properties.a.not"),
        ({"$ref": "https://example.com/schema"}, "schema.$ref"),
        ({"type": "array", "maxItems": 10**9}, "schema.maxItems"),
        ({"type": "string", "pattern": "^((a{999}){999}){999}$"}, "schema.pattern"),
        ({"items": {"items": {"maxItems": 999}, "maxItems": 999}, "maxItems": 999}, "schema: it is"),
    ],
    ids=str,
)
async def test_a_schema_that_cannot_be_enforced_is_refused_by_its_place(
    haiku: Worker, schema: object, place: str
) -> None:
    body = {"job_id": "refused", **ASKED, "response_format": schema_format(schema)}

    status, code, details = await haiku.refusal("POST", "/execute", body)

    assert (status, code) == (400, "INVALID_REQUEST")
    assert place in str([f"{field['field']}: {field['problem']}" for field in details["fields"]])  # type: ignore[attr-defined]  # as errors have them


async def test_a_schema_that_only_the_engine_knows_to_be_impossible_is_refused(haiku: Worker) -> None:
    impossible = {"allOf": [{"type": "string"}, {"type": "integer"}]}
    body = {"job_id": "impossible", **ASKED, "response_format": schema_format(impossible)}

    status, code, _ = await haiku.refusal("POST", "/execute", body)

    assert (status, code) == (400, "INVALID_REQUEST")
    assert (await haiku.health()).slots_busy == 0


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}], ids=str)
async def test_a_call_that_must_be_is_one_with_arguments_that_follow_its_schema(haiku: Worker, choice: object) -> None:
    for seed in range(4):
        body = ASKED | {"seed": seed, "tools": [TIME, WEATHER], "tool_choice": choice}
        events = await haiku.execute(f"{'any' if choice == 'required' else 'one'}{seed}", **body)
        [call] = calls_of(events)

        assert call["id"].startswith("call_")
        assert call["name"] in {"get_weather", "get_time"} if choice == "required" else call["name"] == "get_weather"
        assert jsonschema_rs.is_valid(PLACE if call["name"] == "get_weather" else True, json.loads(call["arguments"]))
        assert text_of(events) == ""
        assert last(events)["stop_reason"] == "eos"
        assert sum(len(token.ids) for token in tokens_of(events)) > 5


async def test_several_calls_come_where_they_are_allowed(haiku: Worker) -> None:
    found = []
    for seed in range(6):
        body = ASKED | {"seed": seed, "tools": [TIME], "tool_choice": "required", "parallel_tool_calls": True}
        found.append(len(calls_of(await haiku.execute(f"several{seed}", **body))))

    assert max(found) > 1
    assert min(found) > 0


async def test_a_function_with_a_long_name_is_called_by_it(haiku: Worker) -> None:
    name = "n" * 128
    function = {"name": name, "parameters": NOTHING}
    body = ASKED | {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}

    [call] = calls_of(await haiku.execute("long", **body))

    assert call["name"] == name


async def test_tools_are_refused_where_the_template_knows_none(haiku: Worker) -> None:
    status, code, details = await haiku.refusal("POST", "/execute", {"job_id": "auto", **ASKED, "tools": [TIME]})

    assert (status, code) == (400, "INVALID_REQUEST")
    assert "template knows no tools" in str(details)


async def test_penalties_and_biases_change_what_is_written(haiku: Worker) -> None:
    cold = ASKED | {"temperature": 0, "max_tokens": 40}
    plain = await haiku.execute("plain", **cold)
    [first, *_] = tokens_of(plain)
    banned = await haiku.execute("banned", **cold, logit_bias={str(first.ids[0]): -100})
    fresh = await haiku.text("fresh", **cold, frequency_penalty=2, presence_penalty=2)
    status, code, details = await haiku.refusal(
        "POST", "/execute", {"job_id": "wide", **cold, "logit_bias": {"999999": 1}}
    )

    assert first.ids[0] not in [token for event in tokens_of(banned) for token in event.ids]
    assert fresh != text_of(plain)
    assert (status, code, "logit_bias" in str(details)) == (400, "INVALID_REQUEST", True)


async def test_probabilities_are_those_of_the_tokens_told(haiku: Worker) -> None:
    cold = ASKED | {"temperature": 0, "max_tokens": 20}
    events = await haiku.execute("likely", **cold, logprobs=True, top_logprobs=3)
    bare = await haiku.execute("bare", **cold, logprobs=True)

    told = [one for token in tokens_of(events) for one in token.logprobs or ()]
    assert "".join(one.token for one in told) == text_of(events)
    assert all(bytes(one.bytes).decode() == one.token for one in told)
    assert all(one.top_logprobs[0].token == one.token for one in told)  # the likeliest was taken
    assert all(len(one.top_logprobs) == 3 for one in told)
    assert all(sum(math.exp(other.logprob) for other in one.top_logprobs) <= 1.001 for one in told)
    assert all(one.top_logprobs == [] for token in tokens_of(bare) for one in token.logprobs or ())


async def test_calls_and_text_come_apart_as_the_models_own_template_has_them(tmp_path: Path) -> None:
    spoken = ["Let me", " look. ", "<tool_call>\n", '{"name": ', '"get_weather"', ', "arguments": ', '{"city": "Be']
    scribe = scribes.write(tmp_path / "scribe.gguf", [*spoken, 'rlin", ', '"days": 2}', "}\n", "</tool_call>"])
    async with worker(scribe, slots=1) as calling:
        events = await calling.execute("auto", **ASKED, tools=[WEATHER, TIME])
        history = [
            *ASKED["messages"],
            {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        ]
        again = await calling.execute("again", **ASKED | {"messages": history}, tools=[WEATHER])
        none = await calling.execute("none", **ASKED, tools=[WEATHER], tool_choice="none")

    [call] = calls_of(events)
    assert text_of(events) == "Let me look. "
    assert (call["name"], json.loads(call["arguments"])) == ("get_weather", {"city": "Berlin", "days": 2})
    assert len(calls_of(again)) == 1
    assert last(events) | {"prefill_ms": 0, "decode_ms": 0} == {
        "kind": "end",
        "tokens_in": last(events)["tokens_in"],
        "tokens_out": 12,
        "stop_reason": "eos",
        "prefill_ms": 0,
        "decode_ms": 0,
        "tokens_cached": 0,
    }
    assert "<tool_call>" in text_of(none)


async def test_a_conversation_goes_on_behind_calls_whose_arguments_are_no_object(tmp_path: Path) -> None:
    scribe = scribes.write(tmp_path / "scribe.gguf", ["It will", " rain."])
    async with worker(scribe, slots=1) as calling:
        for number, arguments in enumerate(["", "null", '{"city": "Be', "[1]", "Berlin"]):
            call = {**CALL, "function": {"name": "get_weather", "arguments": arguments}}
            history = [
                *ASKED["messages"],
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
            ]
            plain = await calling.text(f"plain{number}", **ASKED | {"messages": history})
            events = await calling.execute(f"tools{number}", **ASKED | {"messages": history}, tools=[WEATHER])

            assert (plain, text_of(events)) == ("It will rain.", "It will rain.")


@pytest.mark.parametrize("choice", ["auto", "required"])
async def test_parameters_may_be_only_true_or_false(tmp_path: Path, choice: str) -> None:
    parts = {"items": True, "prefixItems": [True]}
    schema = {"type": "object", "properties": {"a": True, "b": False, "c": parts, "d": {"anyOf": [True, False]}}}
    loose = {"type": "function", "function": {"name": "get_weather", "parameters": schema}}
    scribe = scribes.write(tmp_path / "scribe.gguf", scribes.CALLING)
    async with worker(scribe, slots=1) as calling:
        events = await calling.execute("loose", **ASKED, tools=[loose], tool_choice=choice)

    assert last(events)["kind"] == "end"
    assert [call["name"] for call in calls_of(events)] == ["get_weather"]


async def test_thoughts_come_apart_where_that_is_asked_for(tmp_path: Path) -> None:
    spoken = ["I see", " rain.", "\n</think>\n\n", "It will", " rain"]
    thinker = scribes.write(tmp_path / "thinker.gguf", spoken, template=scribes.THINKING)
    async with worker(thinker, slots=1) as thinking:
        apart = await thinking.execute("apart", **ASKED, reasoning_format="auto")
        whole = await thinking.text("whole", **ASKED)

    thoughts = "".join(token.reasoning_content or "" for token in tokens_of(apart))
    assert (thoughts.strip(), text_of(apart)) == ("I see rain.", "It will rain")
    assert whole == "".join(spoken)
