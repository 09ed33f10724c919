"""OpenAI's own Python library, unmodified, against a running system: only its base URL was changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from openai.types.responses import FunctionToolParam, ResponseInputParam
from pydantic import BaseModel, Field

from llorch.wire.tasks import TaskPage
from tests.e2e.processes import Role, whole_system
from tests.support import scribes
from tests.support.beside import data_url, png
from tests.support.scribes import PLACE

POEM = "Write a haiku about rain"
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": POEM}]
WEATHER: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Tells the weather", "parameters": PLACE},
}
NOWHERE = f"hf:org/none@{'0' * 40}::file=none.gguf"


class Place(BaseModel):
    """What the library makes a schema of, and puts the answer into."""

    city: str = Field(max_length=9)
    days: int = Field(ge=1, le=9)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Role, AsyncOpenAI]]:
    """Run all roles, and the library that speaks to them."""
    async with (
        whole_system(folder) as system,
        AsyncOpenAI(
            base_url=f"{system.url}/v1", api_key="unused", max_retries=0, _strict_response_validation=True
        ) as ai,
    ):
        yield system, ai


async def test_chats_and_completions_streamed_and_whole_are_the_same_text(tmp_path: Path) -> None:
    async with serving(tmp_path) as (system, ai):
        messages: list[ChatCompletionMessageParam] = [
            {"role": "system", "content": "You write haiku."},
            {"role": "user", "content": POEM},
        ]
        whole = await ai.chat.completions.create(model="haiku", messages=messages, temperature=0)
        stream = await ai.chat.completions.create(
            model="haiku", messages=messages, temperature=0, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        plain = await ai.completions.create(model="haiku", prompt=POEM, temperature=0, max_tokens=60)
        # The library's type for these chunks forbids the null that OpenAI sends while a text is not over.
        async with AsyncOpenAI(base_url=f"{system.url}/v1", api_key="unused") as lenient:
            parts = [
                chunk.choices[0].text
                async for chunk in await lenient.completions.create(
                    model="haiku", prompt=POEM, temperature=0, max_tokens=60, stream=True
                )
            ]
        jobs = await system.client.send("GET", "/v2/tasks", TaskPage)

    [choice] = whole.choices
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    assert choice.message.content == "".join(delta.content or "" for delta in deltas)
    assert [delta.role for delta in deltas].count("assistant") == 1
    assert choice.finish_reason == chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert whole.usage is not None
    assert chunks[-1].usage is not None
    first, second = whole.usage.prompt_tokens_details, chunks[-1].usage.prompt_tokens_details
    assert first is not None
    assert second is not None
    assert (first.cached_tokens or 0) < (second.cached_tokens or 0) < whole.usage.prompt_tokens
    assert chunks[-1].usage.model_copy(update={"prompt_tokens_details": first}) == whole.usage
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 10
    assert str(whole.system_fingerprint).startswith("llamacpp/")
    assert plain.choices[0].text == "".join(parts)
    assert [(task.status, task.on_disconnect) for task in jobs.tasks] == [("completed", "cancel")] * 4


async def test_every_field_that_changes_an_answer_arrives(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_system, ai):

        async def ask(**fields: object) -> list[str]:
            reply = await ai.completions.create(**{"model": "haiku", "prompt": POEM, "max_tokens": 24, **fields})  # type: ignore[call-overload]  # any of them
            return [choice.text for choice in reply.choices]

        [first], [same], [other] = [await ask(seed=seed) for seed in (1, 1, 2)]
        three = await ask(seed=1, n=3)
        two = await ask(prompt=[POEM, "Write a haiku about tea"], temperature=0)
        [short] = await ask(max_tokens=2, temperature=0)
        [stopped] = await ask(stop=["\n"], temperature=0)

    assert first == same != other
    assert three[0] == first
    assert len(set(three)) == 3
    assert two[0] != two[1]
    assert two[0].startswith(short)
    assert two[0].partition("\n")[0] == stopped


async def test_refusals_are_the_librarys_own_errors_and_say_which_field(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_system, ai):
        with pytest.raises(openai.NotFoundError) as unknown:
            await ai.completions.create(model="haik", prompt="x")
        with pytest.raises(openai.BadRequestError) as hot:
            await ai.completions.create(model="haiku", prompt="x", temperature=3)
        with pytest.raises(openai.BadRequestError) as tools:
            await ai.chat.completions.create(model="haiku", messages=ASKED, tools=[WEATHER])
        with pytest.raises(openai.BadRequestError) as schema:
            await ai.chat.completions.create(
                model="haiku",
                messages=ASKED,
                response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}},
            )
        with pytest.raises(openai.BadRequestError) as picture:
            await ai.chat.completions.create(
                model="haiku",
                messages=[
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": data_url(png(1, 2, 3))}}]}
                ],
            )

    assert (unknown.value.code, "did you mean haiku" in unknown.value.message) == ("MODEL_NOT_FOUND", True)
    assert (hot.value.param, hot.value.type) == ("temperature", "invalid_request_error")
    assert "template knows no tools" in tools.value.message
    assert schema.value.param == "response_format.json_schema.schema.not"
    assert picture.value.param == "messages[0].content[0]"
    assert "the model has no projector" in picture.value.message


async def test_answers_have_the_form_that_was_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_system, ai):
        parsed = await ai.chat.completions.parse(model="haiku", messages=ASKED, response_format=Place)
        stream = await ai.chat.completions.create(
            model="haiku",
            messages=ASKED,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "place", "schema": PLACE, "strict": True},
            },
            stream=True,
        )
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        likely = await ai.chat.completions.create(
            model="haiku", messages=ASKED, temperature=0, max_tokens=9, logprobs=True, top_logprobs=2
        )
        raw = await ai.completions.with_raw_response.create(model="haiku", prompt=POEM, max_tokens=4, logprobs=2)
        plain = raw.parse()

    assert isinstance(parsed.choices[0].message.parsed, Place)
    Place.model_validate_json(streamed)
    [choice] = likely.choices
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert "".join(one.token for one in choice.logprobs.content) == choice.message.content
    assert {len(one.top_logprobs) for one in choice.logprobs.content} == {2}
    assert plain.choices[0].logprobs is not None
    assert "".join(plain.choices[0].logprobs.tokens or []) == plain.choices[0].text
    assert plain.usage is not None
    assert raw.headers["X-Job-Id"] == plain.id.removeprefix("cmpl-")
    assert raw.headers["X-Correlation-Id"] == raw.request_id == plain._request_id


async def test_tools_are_called_when_they_must_be_and_when_the_model_wants_to(tmp_path: Path) -> None:
    scribe = f"file:{scribes.write(tmp_path / 'scribe.gguf', scribes.CALLING)}"
    thinker = scribes.write(
        tmp_path / "thinker.gguf", ["I see", " rain\n</think>\n\n", "It rains"], template=scribes.THINKING
    )
    async with serving(tmp_path) as (_system, ai):
        forced = await ai.chat.completions.create(
            model="haiku",
            messages=ASKED,
            tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
        )
        async with ai.chat.completions.stream(
            model="haiku", messages=ASKED, tools=[WEATHER], tool_choice="required"
        ) as events:
            async for _ in events:
                pass
            required = await events.get_final_completion()
        wanted = await ai.chat.completions.create(model=scribe, messages=ASKED, tools=[WEATHER])
        [call] = wanted.choices[0].message.tool_calls or []
        history: list[ChatCompletionMessageParam] = [
            *ASKED,
            {"role": "assistant", "content": None, "tool_calls": [call.to_dict()]},  # type: ignore[list-item]  # it is one
            {"role": "tool", "tool_call_id": call.id, "content": "rain"},
        ]
        chunks = [
            chunk
            async for chunk in await ai.chat.completions.create(
                model=scribe, messages=history, tools=[WEATHER], stream=True, stream_options={"include_usage": True}
            )
        ]
        thought = await ai.chat.completions.create(model=f"file:{thinker}", messages=ASKED, reasoning_effort="low")

    for reply in (forced, required):
        [made] = reply.choices[0].message.tool_calls or []
        assert made.type == "function"
        assert made.function.name == "get_weather"
        Place.model_validate_json(made.function.arguments)
        assert reply.choices[0].finish_reason == "tool_calls"
    assert (wanted.choices[0].message.content, wanted.choices[0].finish_reason) == ("Let me look. ", "tool_calls")
    assert call.type == "function"
    assert Place.model_validate_json(call.function.arguments) == Place(city="Berlin", days=2)
    deltas = [delta for chunk in chunks[:-1] for delta in chunk.choices[0].delta.tool_calls or []]
    assert deltas[0].function is not None
    assert (deltas[0].id is not None, deltas[0].function.name) == (True, "get_weather")
    assert len(deltas) > 2
    Place.model_validate_json("".join((delta.function and delta.function.arguments) or "" for delta in deltas))
    assert chunks[-2].choices[0].finish_reason == "tool_calls"
    assert chunks[-1].usage is not None
    said = thought.choices[0].message
    assert (said.content, said.to_dict()["reasoning_content"]) == ("It rains", "I see rain\n")


async def test_responses_are_streamed_and_whole_and_call_functions(tmp_path: Path) -> None:
    scribe = f"file:{scribes.write(tmp_path / 'scribe.gguf', scribes.CALLING)}"
    offered: FunctionToolParam = {
        "type": "function",
        "name": "get_weather",
        "parameters": PLACE,
        "strict": True,
    }
    async with serving(tmp_path) as (system, ai):
        plain = await ai.responses.create(
            model="haiku", input=POEM, instructions="Be brief.", temperature=0, store=False
        )
        async with ai.responses.stream(model="haiku", input=POEM, instructions="Be brief.", temperature=0) as stream:
            pieces = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            streamed = await stream.get_final_response()
        formed = await ai.responses.parse(model="haiku", input=POEM, text_format=Place)
        wanted = await ai.responses.create(model=scribe, input=POEM, tools=[offered])
        [said, call] = wanted.output
        assert call.type == "function_call"
        history: ResponseInputParam = [
            {"role": "user", "content": POEM},
            {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
            {"type": "function_call_output", "call_id": call.call_id, "output": "rain"},
        ]
        async with ai.responses.stream(model=scribe, input=history, tools=[offered]) as stream:
            kinds = [event.type async for event in stream]
            again = await stream.get_final_response()
        cut = await ai.responses.create(model="haiku", input=POEM, max_output_tokens=2)
        with pytest.raises(openai.BadRequestError) as kept:
            await ai.responses.create(model="haiku", input=POEM, previous_response_id="resp_1")
        jobs = await system.client.send("GET", "/v2/tasks", TaskPage)

    assert plain.output_text == "".join(pieces) == streamed.output_text
    assert plain.usage is not None
    assert streamed.usage is not None
    cached = [usage.input_tokens_details.cached_tokens for usage in (plain.usage, streamed.usage)]
    assert plain.usage.total_tokens == streamed.usage.total_tokens > max(cached) > 0
    assert isinstance(formed.output_parsed, Place)
    assert said.type == "message"
    assert Place.model_validate_json(call.arguments) == Place(city="Berlin", days=2)
    assert kinds.count("response.function_call_arguments.delta") > 1
    assert [item.type for item in again.output] == ["message", "function_call"]
    assert (cut.status, cut.incomplete_details and cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert kept.value.param == "previous_response_id"
    assert len(jobs.tasks) == 6


async def test_models_are_listed_and_found_by_name(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_system, ai):
        names = [card.id async for card in ai.models.list()]
        card = await ai.models.retrieve("haiku")
        ref = await ai.models.retrieve("hf:org/name@main::file=a/b.gguf")
        with pytest.raises(openai.NotFoundError):
            await ai.models.retrieve("gpt-4")

    assert "haiku" in names
    assert (card.id, ref.id) == ("haiku", "hf:org/name@main::file=a/b.gguf")


async def test_a_client_that_leaves_takes_its_jobs_with_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as (system, ai):
        waiting = asyncio.create_task(  # noqa: TID251 - cancelled right here
            ai.completions.create(model=NOWHERE, prompt=POEM, n=3)
        )
        async with asyncio.timeout(20):
            while len((await system.client.send("GET", "/v2/tasks", TaskPage)).tasks) < 3:
                await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.wait([waiting])
        async with asyncio.timeout(20):
            while True:
                tasks = (await system.client.send("GET", "/v2/tasks", TaskPage)).tasks
                if all(task.status in {"cancelled", "failed"} for task in tasks):
                    break
                await asyncio.sleep(0.02)
