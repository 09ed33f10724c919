"""OpenAI's own Python library, unmodified, against a running system: only its base URL was changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from llorch.wire.tasks import TaskPage
from tests.e2e.processes import Role, whole_system

POEM = "Write a haiku about rain"
NOWHERE = f"hf:org/none@{'0' * 40}::file=none.gguf"


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
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
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
            await ai.chat.completions.create(
                model="haiku",
                messages=[{"role": "user", "content": "x"}],
                tools=[{"type": "function", "function": {"name": "f"}}],
            )
        with pytest.raises(openai.BadRequestError) as picture:
            await ai.chat.completions.create(
                model="haiku",
                messages=[
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}
                ],
            )

    assert (unknown.value.code, "did you mean haiku" in unknown.value.message) == ("MODEL_NOT_FOUND", True)
    assert (hot.value.param, hot.value.type) == ("temperature", "invalid_request_error")
    assert (tools.value.param, picture.value.param) == ("tools", "messages[0]")


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
