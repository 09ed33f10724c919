"""What clients of other programs' APIs get of an answer that takes several attempts: one beginning, one end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from llorch.sse import parse
from tests.support.orchestrating import PATIENCE_S, QUIET, REF, ScriptedWorker, System, both
from tests.support.scripts import Call, Script, dying, second_half

TALK = [{"role": "user", "content": "hi"}]
Told = list[tuple[str, dict[str, Any]]]


async def begun_and_dead(call: Call) -> None:
    """Say that the job has a slot, and die while its prompt is read."""
    await call.started()
    call.die()


def by_attempt(*scripts: Script) -> Script:
    """Play another script at each attempt of a job."""

    async def play(call: Call) -> None:
        await scripts[call.body.attempt - 1](call)

    return play


async def streamed(system: System, path: str, **body: object) -> Told:
    """Return the events of a streamed answer, the signs of life left out, letting time pass until it has ended."""
    asked = {"model": REF, "stream": True, **body}
    async with (
        asyncio.timeout(PATIENCE_S),
        asyncio.TaskGroup() as group,
        system.client.request("POST", path, body=asked) as response,
    ):
        reading = group.create_task(response.read())
        while not reading.done():
            await asyncio.wait([reading], timeout=0.05)
            system.advance(1_000)
    found = [(event.kind, event.data) for event in parse(reading.result())]
    return [(kind, json.loads(data)) for kind, data in found if kind != "ping" and data != b"[DONE]"]


once = pytest.mark.parametrize(
    ("deaths", "text"), [([begun_and_dead, begun_and_dead], "[0:]"), ([begun_and_dead, dying], "one two [2:one two ]")]
)


@once
async def test_an_answer_begins_once_for_anthropics_clients(deaths: list[Script], text: str, tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker(by_attempt(*deaths, second_half)), **QUIET) as system:
        told = await streamed(system, "/v1/messages", messages=TALK, max_tokens=9)

    kinds = [kind for kind, _ in told if kind != "content_block_delta"]
    assert kinds == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    assert told[0][1]["message"]["usage"]["input_tokens"] == 3
    assert "".join(body["delta"]["text"] for kind, body in told if kind == "content_block_delta") == text


@once
async def test_an_answer_begins_once_for_clients_of_openais_responses(
    deaths: list[Script], text: str, tmp_path: Path
) -> None:
    async with both(tmp_path, ScriptedWorker(by_attempt(*deaths, second_half)), **QUIET) as system:
        told = await streamed(system, "/v1/responses", input="hi")

    kinds = [kind.removeprefix("response.") for kind, _ in told if kind != "response.output_text.delta"]
    assert kinds == [
        *["created", "in_progress", "output_item.added", "content_part.added"],
        *["output_text.done", "content_part.done", "output_item.done", "completed"],
    ]
    assert [body["sequence_number"] for _, body in told] == list(range(len(told)))
    assert told[-1][1]["response"]["output"][0]["content"][0]["text"] == text


@once
async def test_each_answer_begins_once_for_clients_of_openais_chat(
    deaths: list[Script], text: str, tmp_path: Path
) -> None:
    async with both(tmp_path, ScriptedWorker(by_attempt(*deaths, second_half)), **QUIET) as system:
        told = await streamed(system, "/v1/chat/completions", messages=TALK, n=2)

    choices = [body["choices"][0] for _, body in told]
    for index in range(2):
        deltas = [choice["delta"] for choice in choices if choice["index"] == index]
        assert [number for number, delta in enumerate(deltas) if "role" in delta] == [0]
        assert "".join(delta.get("content", "") for delta in deltas) == text
