"""Pictures: the real engine, a model and a projector with random weights, of which other pictures make other texts."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from llorch.wire.engine_options import EngineOptions
from llorch.wire.events import WorkerToken
from tests.support import models
from tests.support.beside import data_url, make_projector, png
from tests.support.workers import Worker, last, text_of, tokens_of, worker

pytestmark = pytest.mark.asyncio(loop_scope="module")
RED, BLUE, GREEN = png(255, 0, 0), png(0, 0, 255), png(10, 200, 30)
PICTURE_TOKENS = 4
"""28 pixels a side, in patches of 14."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def one(folder: Path) -> AsyncIterator[Worker]:
    options = EngineOptions(projector=str(make_projector(folder / "p.gguf")))
    async with worker(models.make(folder / "m.gguf"), slots=1, engine_options=options) as running:
        yield running


def asked(*pictures: bytes, text: str = "bake kilo", **more: object) -> dict[str, Any]:
    shown = [{"type": "image_url", "image_url": {"url": data_url(picture)}} for picture in pictures]
    content = [{"type": "text", "text": text}, *shown]
    messages = [{"role": "user", "content": content}]
    return {"job_id": uuid.uuid4().hex, "messages": messages, "temperature": 0, "max_tokens": 40, **more}


async def counted(one: Worker, body: dict[str, Any]) -> int:
    async with one.http.post("/count", json={"messages": body["messages"]}) as response:
        assert response.status == 200
        return int((await response.json())["tokens"])


async def test_the_same_picture_gives_the_same_text_and_another_one_another(one: Worker) -> None:
    texts = [await one.text(**asked(*pictures)) for pictures in ((RED,), (RED,), (BLUE,), (GREEN,), ())]
    both = [await one.text(**asked(*pictures)) for pictures in ((RED, BLUE), (BLUE, RED))]

    assert texts[0] == texts[1]
    assert len({*texts, *both}) == 6


async def test_its_tokens_are_counted_with_those_of_the_text(one: Worker) -> None:
    ended = last(await one.execute(**asked(RED, max_tokens=3)))

    none, single, two = [await counted(one, asked(*pictures)) for pictures in ((), (RED,), (RED, BLUE))]

    assert ended["tokens_in"] == single
    assert (single - none, two - single) == (PICTURE_TOKENS, PICTURE_TOKENS)


async def test_a_form_stops_and_probabilities_work_beside_a_picture(one: Worker) -> None:
    formed = await one.text(**asked(RED, response_format={"type": "json_object"}, max_tokens=5))
    told = tokens_of(await one.execute(**asked(RED, logprobs=True, top_logprobs=1)))
    whole = "".join(token.t for token in told)
    stopped = await one.execute(**asked(RED, stop=[whole[4:8]]))

    assert formed.startswith("{")
    assert all(isinstance(token.logprobs, list) and token.logprobs for token in told)
    assert (text_of(stopped), last(stopped)["stop_reason"]) == (whole[: whole.index(whole[4:8])], "stop_sequence")


async def test_an_answer_goes_on_behind_its_text_with_the_picture(one: Worker) -> None:
    whole: list[WorkerToken] = tokens_of(await one.execute(**asked(RED)))
    texts = set()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        begun = "".join(token.t for token in whole[:cut])
        rest = await one.text(**asked(RED, continue_text=begun, first_token=cut, attempt=2, max_tokens=40))
        texts.add((begun + rest)[: len("".join(token.t for token in whole))])

    assert all(token.ids == [] for token in whole)
    assert texts == {"".join(token.t for token in whole)}


async def test_text_in_parts_is_text(one: Worker) -> None:
    parts = [{"type": "text", "text": "bake"}, {"type": "text", "text": "kilo"}]
    contents: list[object] = ["bake\nkilo", parts]

    texts = [await one.text(**(asked() | {"messages": [{"role": "user", "content": each}]})) for each in contents]

    assert texts[0] == texts[1]


async def test_too_many_pictures_for_the_context_are_refused_with_their_number(one: Worker) -> None:
    status, code, details = await one.refusal("POST", "/execute", asked(*[RED] * 130))

    assert (status, code) == (400, "INVALID_REQUEST")
    assert details["prompt_tokens"] == await counted(one, asked(*[RED] * 130))


async def test_a_broken_picture_is_refused_and_the_worker_goes_on(one: Worker) -> None:
    broken = RED[:40] + b"no more of it"

    status, code, _ = await one.refusal("POST", "/execute", asked(broken))

    assert (status, code) == (400, "INVALID_REQUEST")
    assert await one.text(**asked(BLUE))


async def test_a_model_without_a_projector_refuses_them_by_name(folder: Path) -> None:
    async with worker(models.make(folder / "blind.gguf"), slots=1) as blind:
        status, code, details = await blind.refusal("POST", "/execute", asked(RED))

    problem = "the model has no projector, and reads text alone"
    assert (status, code) == (400, "INVALID_REQUEST")
    assert details["fields"] == [{"field": "messages[0].content[1]", "problem": problem}]
