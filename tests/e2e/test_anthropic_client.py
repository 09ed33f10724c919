"""Anthropic's own Python library, unmodified, against a running system: only its base URL was changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam

from tests.e2e.processes import role, whole_system

COLD = {"temperature": 0}
"""The library has no argument for it any more; servers still take it."""
POEM: list[MessageParam] = [{"role": "user", "content": "Write a haiku about rain"}]


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[AsyncAnthropic]:
    """Run all roles, and the library that speaks to them."""
    async with (
        whole_system(folder) as system,
        AsyncAnthropic(base_url=system.url, api_key="unused", max_retries=0, _strict_response_validation=True) as ai,
    ):
        yield ai


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
    assert (whole.stop_reason, whole.usage) == (final.stop_reason, final.usage)
    assert whole.stop_reason == "end_turn"
    assert counted.input_tokens == whole.usage.input_tokens > 5


async def test_stop_reasons_are_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as ai:
        short = await ai.messages.create(model="haiku", max_tokens=2, messages=POEM, extra_body=COLD)
        line = await ai.messages.create(
            model="haiku", max_tokens=64, messages=POEM, extra_body=COLD, stop_sequences=["\n"]
        )

    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 2)
    assert (line.stop_reason, line.stop_sequence) == ("stop_sequence", "\n")
    assert "\n" not in str(line.content[0])


async def test_refusals_are_the_librarys_own_errors(tmp_path: Path) -> None:
    async with serving(tmp_path) as ai:
        with pytest.raises(anthropic.NotFoundError, match="did you mean haiku"):
            await ai.messages.create(model="haik", max_tokens=2, messages=POEM)
        with pytest.raises(anthropic.BadRequestError, match="tools: not supported"):
            await ai.messages.create(
                model="haiku", max_tokens=2, messages=POEM, tools=[{"name": "f", "input_schema": {"type": "object"}}]
            )
        with pytest.raises(anthropic.APIStatusError) as early:
            await ai.messages.count_tokens(model="tinyllama", messages=POEM)

    assert early.value.status_code == 503


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
