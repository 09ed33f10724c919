"""Pictures by the libraries that others wrote, unmodified: to a model with a projector, and to one without."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anthropic
import ollama
import openai
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import ResponseInputParam

from llorch.errors import RemoteError
from tests.e2e.processes import Role, role, text_of
from tests.support import models
from tests.support.beside import data_url, encoded, make_projector, png

RED, BLUE = png(255, 0, 0), png(0, 0, 255)
SAID = "bake kilo"
COLD = {"temperature": 0}
LIMIT = 20


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Role]:
    """Run all roles with a model that is called `seer` and has a projector, and one that has none, `blind`."""
    files = folder / "models"
    files.mkdir()
    model, blind = models.make(files / "m.gguf"), models.make(files / "blind.gguf", seed=2)
    config = folder / "llorch.toml"
    config.write_text(
        f'[aliases]\nseer = "file:{model}"\nblind = "file:{blind}"\n'
        f'[models.seer]\nprojector = "file:{make_projector(files / "p.gguf")}"\n[pool]\nmodels_dir = "{files}"\n',
        "utf-8",
    )
    arguments = ("--port", "0", "--pool-port", "0", "--data-dir", str(folder / "all"), "--config", str(config))
    async with role("all", *arguments, log=folder / "log") as system:
        yield system


def shown(picture: bytes) -> list[ChatCompletionMessageParam]:
    return [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": SAID},
                {"type": "image_url", "image_url": {"url": data_url(picture), "detail": "high"}},
            ],
        }
    ]


def shown_to_anthropic(picture: bytes) -> list[MessageParam]:
    return [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": SAID},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded(picture)}},
            ],
        }
    ]


async def test_openais_library_shows_pictures_in_both_of_its_apis(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as system,
        AsyncOpenAI(
            base_url=f"{system.url}/v1", api_key="unused", max_retries=0, _strict_response_validation=True
        ) as ai,
    ):
        texts, counts = [], []
        for picture in (RED, RED, BLUE):
            whole = await ai.chat.completions.create(
                model="seer", messages=shown(picture), temperature=0, max_tokens=LIMIT
            )
            texts.append(whole.choices[0].message.content)
            counts.append(whole.usage.prompt_tokens if whole.usage else 0)
        stream = await ai.chat.completions.create(
            model="seer", messages=shown(RED), temperature=0, max_tokens=LIMIT, stream=True
        )
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        asked: ResponseInputParam = [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": SAID},
                    {"type": "input_image", "image_url": data_url(RED), "detail": "auto"},
                ],
            }
        ]
        answered = await ai.responses.create(model="seer", input=asked, temperature=0, max_output_tokens=LIMIT)
        far: ChatCompletionMessageParam = {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.png"}}],
        }
        with pytest.raises(openai.BadRequestError) as elsewhere:
            await ai.chat.completions.create(model="seer", messages=[far])
        with pytest.raises(openai.BadRequestError) as blind:
            await ai.chat.completions.create(model="blind", messages=shown(RED))
        with pytest.raises(openai.BadRequestError) as large:
            await ai.chat.completions.create(model="seer", messages=shown(RED[:16] + b"\x7f\xff" * 4 + RED[24:]))
        listed = [card.id async for card in ai.models.list()]

    assert texts[0] == texts[1] == streamed == answered.output_text
    assert texts[0] != texts[2]
    assert len(set(counts)) == 1
    assert elsewhere.value.param == "messages[0].content[0].image_url"
    assert "not fetched from elsewhere" in elsewhere.value.message
    assert (blind.value.param, blind.value.code) == ("messages[0].content[1]", "INVALID_REQUEST")
    assert "no projector" in blind.value.message
    assert "pixels" in large.value.message
    assert {"seer", "blind"} <= set(listed)
    assert not [name for name in listed if "p.gguf" in name]


async def test_anthropics_and_ollamas_libraries_show_the_same_pictures(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as system,
        AsyncAnthropic(base_url=system.url, api_key="unused", max_retries=0) as ai,
        ollama.AsyncClient(host=system.url) as other,
    ):
        said = []
        for picture in (RED, BLUE):
            reply = await ai.messages.create(
                model="seer", max_tokens=LIMIT, messages=shown_to_anthropic(picture), extra_body=COLD
            )
            [block] = reply.content
            assert block.type == "text"
            said.append((block.text, reply.usage.input_tokens))
        tokens = await ai.messages.count_tokens(model="seer", messages=shown_to_anthropic(RED))
        with pytest.raises(anthropic.BadRequestError, match="no projector"):
            await ai.messages.create(model="blind", max_tokens=2, messages=shown_to_anthropic(RED))
        options = {"temperature": 0, "num_predict": LIMIT}
        chats, generated = [], []
        for picture in (RED, BLUE):
            turn = {"role": "user", "content": SAID, "images": [picture]}
            chats.append((await other.chat("seer", messages=[turn], options=options)).message.content)
            generated.append((await other.generate("seer", SAID, images=[picture], options=options)).response)
        sees, plain = await other.show("seer"), await other.show("blind")
        with pytest.raises(ollama.ResponseError, match="no projector"):
            await other.generate("blind", SAID, images=[RED])
        job = await system.submit(model="seer", messages=shown(RED), temperature=0, max_tokens=LIMIT)
        own = text_of(await system.events(job.job_id))
        with pytest.raises(RemoteError) as refused:
            await system.submit(model="seer", messages=[{"role": "assistant", "content": shown(RED)[0]["content"]}])

    assert (own, tokens.input_tokens) == (said[0][0], said[0][1])
    assert said[0][0] != said[1][0]
    assert chats == generated
    assert chats[0] != chats[1]
    assert (sees.capabilities, plain.capabilities) == (["completion", "vision"], ["completion"])
    assert "only a message of role user has pictures" in refused.value.message
