"""Anthropic's own Python library, unmodified, against a running system: only its base URL was changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message, MessageParam, ToolParam

from tests.e2e.processes import orchestrator_role, role, whole_system
from tests.support import scribes
from tests.support.beside import encoded, png
from tests.support.scribes import PLACE

COLD = {"temperature": 0}
"""The library has no argument for it any more; servers still take it."""
WEATHER: ToolParam = {"name": "get_weather", "description": "Tells the weather", "input_schema": PLACE}
SPOKEN = ["I see", " rain\n</think>\n\n", "Let me", " look. ", "<tool_call>\n", '{"name": ', '"get_weather"']
SPOKEN += [', "arguments": ', '{"city": "Be', 'rlin", ', '"days": 2}', "}\n", "</tool_call>"]
PICTURE: list[MessageParam] = [
    {
        "role": "user",
        "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded(png(1, 2, 3))}}
        ],
    }
]
POEM: list[MessageParam] = [{"role": "user", "content": "Write a haiku about rain"}]


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[AsyncAnthropic]:
    """Run all roles, and the library that speaks to them."""
    async with (
        whole_system(folder) as system,
        AsyncAnthropic(base_url=system.url, api_key="unused", max_retries=0, _strict_response_validation=True) as ai,
    ):
        yield ai


def read(message: Message) -> int:
    """Return how many tokens the prompt had; those computed before are told apart."""
    assert message.usage.cache_read_input_tokens is not None
    return message.usage.input_tokens + message.usage.cache_read_input_tokens


async def test_a_message_streamed_and_whole_is_the_same_text(tmp_path: Path) -> None:
    async with serving(tmp_path) as ai:
        whole = await ai.messages.create(
            model="haiku", max_tokens=64, messages=POEM, extra_body=COLD, system="Be brief."
        )
        async with ai.messages.stream(
            model="haiku",
            max_tokens=64,
            messages=[{"role": "user", "content": [{"type": "text", "text": "Write a haiku about rain"}]}],
            extra_body=COLD,
            system=[{"type": "text", "text": "Be brief."}],
        ) as stream:
            pieces = [text async for text in stream.text_stream]
            final = await stream.get_final_message()
        counted = await ai.messages.count_tokens(model="haiku", messages=POEM, system="Be brief.")

    [block] = whole.content
    assert block.type == "text"
    assert block.text == "".join(pieces)
    assert len(pieces) > 3
    assert (whole.stop_reason, whole.usage.output_tokens) == (final.stop_reason, final.usage.output_tokens)
    assert whole.stop_reason == "end_turn"
    assert counted.input_tokens == read(whole) == read(final) > 5
    assert (final.usage.cache_read_input_tokens or 0) > 5


async def test_stop_reasons_are_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as ai:
        short = await ai.messages.create(model="haiku", max_tokens=2, messages=POEM, extra_body=COLD)
        line = await ai.messages.create(
            model="haiku", max_tokens=64, messages=POEM, extra_body=COLD, stop_sequences=["\n"]
        )

    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 2)
    assert (line.stop_reason, line.stop_sequence) == ("stop_sequence", "\n")
    assert "\n" not in str(line.content[0])


async def test_tools_forms_and_thoughts_are_used_as_the_library_has_them(tmp_path: Path) -> None:
    scribe = f"file:{scribes.write(tmp_path / 'scribe.gguf', SPOKEN[2:])}"
    thinker = scribes.write(tmp_path / "thinker.gguf", SPOKEN[:3], template=scribes.THINKING)
    async with serving(tmp_path) as ai:
        forced = await ai.messages.create(
            model="haiku",
            max_tokens=200,
            messages=POEM,
            tools=[WEATHER],
            tool_choice={"type": "tool", "name": "get_weather"},
        )
        async with ai.messages.stream(model=scribe, max_tokens=99, messages=POEM, tools=[WEATHER]) as stream:
            kinds = [event.type async for event in stream]
            wanted = await stream.get_final_message()
        [_, call] = wanted.content
        assert call.type == "tool_use"
        history: list[MessageParam] = [
            *POEM,
            {"role": "assistant", "content": [block.to_dict() for block in wanted.content]},  # type: ignore[misc, list-item]  # blocks
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"}]},
        ]
        again = await ai.messages.create(model=scribe, max_tokens=99, messages=history, tools=[WEATHER])
        counted = await ai.messages.count_tokens(model=scribe, messages=history, tools=[WEATHER])
        formed = await ai.messages.create(
            model="haiku",
            max_tokens=99,
            messages=POEM,
            output_config={"format": {"type": "json_schema", "schema": PLACE}},
        )
        thought = await ai.messages.create(
            model=f"file:{thinker}", max_tokens=99, messages=POEM, thinking={"type": "adaptive"}
        )

    [block] = forced.content
    assert block.type == "tool_use"
    assert (block.name, sorted(block.input), forced.stop_reason) == ("get_weather", ["city", "days"], "tool_use")
    assert (call.name, call.input, wanted.stop_reason) == ("get_weather", {"city": "Berlin", "days": 2}, "tool_use")
    assert kinds.count("input_json") > 1
    assert [block.type for block in again.content] == ["text", "tool_use"]
    assert counted.input_tokens == read(again)
    [text] = formed.content
    assert text.type == "text"
    assert sorted(json.loads(text.text)) == ["city", "days"]
    assert [block.type for block in thought.content] == ["thinking", "text"]


async def test_refusals_are_the_librarys_own_errors(tmp_path: Path) -> None:
    async with serving(tmp_path) as ai:
        with pytest.raises(anthropic.NotFoundError, match="did you mean haiku"):
            await ai.messages.create(model="haik", max_tokens=2, messages=POEM)
        with pytest.raises(anthropic.BadRequestError, match="template knows no tools"):
            await ai.messages.create(model="haiku", max_tokens=2, messages=POEM, tools=[WEATHER])
        with pytest.raises(anthropic.BadRequestError, match="reads text alone"):
            await ai.messages.create(model="haiku", max_tokens=2, messages=PICTURE)
        with pytest.raises(anthropic.APIStatusError) as early:
            await ai.messages.count_tokens(model="tinyllama", messages=POEM)

    assert early.value.status_code == 503
    assert "no worker has this model loaded" in str(early.value)


async def test_nobody_counts_where_no_pool_is_online(tmp_path: Path) -> None:
    async with (
        orchestrator_role(tmp_path) as system,
        AsyncAnthropic(base_url=system.url, api_key="unused", max_retries=0) as ai,
    ):
        with pytest.raises(anthropic.APIStatusError, match="no pool is online") as refused:
            await ai.messages.count_tokens(model="haiku", messages=POEM)

    assert refused.value.status_code == 503


async def test_the_token_may_come_as_the_library_sends_it(tmp_path: Path) -> None:
    arguments = ("--port", "0", "--data-dir", str(tmp_path / "o"))
    env = {"LLORCH_API_TOKEN": "a-token-of-this-test"}
    async with (
        role("orchestrator", *arguments, log=tmp_path / "log", env=env) as system,
        AsyncAnthropic(base_url=system.url, api_key="a-token-of-this-test", max_retries=0) as known,
        AsyncAnthropic(base_url=system.url, api_key="another", max_retries=0) as unknown,
    ):
        with pytest.raises(anthropic.NotFoundError):
            await known.messages.create(model="haik", max_tokens=2, messages=POEM)
        with pytest.raises(anthropic.AuthenticationError):
            await unknown.messages.create(model="haik", max_tokens=2, messages=POEM)
