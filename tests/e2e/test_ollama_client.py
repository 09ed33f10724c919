"""Ollama's own Python library, unmodified, against a running system: only its host was changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import ollama
import pytest
from ollama import AsyncClient

from llorch.wire.tasks import TaskPage
from tests.e2e.processes import Role, role, until, whole_system
from tests.support import scribes
from tests.support.hub import Hub, running_hub
from tests.support.models import Shape, make
from tests.support.scribes import PLACE

POEM = "Write a haiku about rain"
CHAT = [{"role": "system", "content": "You write haiku."}, {"role": "user", "content": POEM}]
NOWHERE = f"hf:org/none@{'0' * 40}::file=none.gguf"
QUANTISED = "tiny-Q4_0.gguf"
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": PLACE}}


@pytest.fixture(name="hub")
async def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "home", monkeypatch) as hub:
        source = make(tmp_path / "source.gguf", Shape())
        hub.add("org/tiny", {QUANTISED: source, "tiny-Q8_0.gguf": source, "README.md": Path(__file__)})
        yield hub


async def jobs(system: Role) -> list[tuple[str, str]]:
    """Return the state and the model of every job, newest first."""
    page = await system.client.send("GET", "/v2/tasks", TaskPage)
    return [(task.status, task.model) for task in page.tasks]


async def test_chats_and_completions_in_lines_and_whole_are_the_same_text(tmp_path: Path) -> None:
    async with whole_system(tmp_path) as system, AsyncClient(host=system.url) as ai:
        options = {"temperature": 0, "num_ctx": 4096}
        unloaded = await ai.generate(model="haiku", keep_alive=0)
        loads = await ai.generate(model="haiku", keep_alive="5m")
        whole = await ai.chat(model="haiku:latest", messages=CHAT, options=options, keep_alive=-1)
        lines = [line async for line in await ai.chat(model="haiku", messages=CHAT, options=options, stream=True)]
        one = await ai.generate(model="haiku", prompt=POEM, system="You write haiku.", options=options)
        raw = await ai.generate(model="haiku", prompt=POEM, raw=True, options=options | {"num_predict": 2})
        pieces = [
            line.response
            async for line in await ai.generate(model="haiku", prompt=POEM, raw=True, options=options, stream=True)
        ]
        stopped = await ai.generate(model="haiku", prompt=POEM, raw=True, options=options | {"stop": ["\n"]})
        done = await jobs(system)
        until_s = [running.expires_at for running in (await ai.ps()).models]
        unloads = await ai.generate(model="haiku", keep_alive=0)
        await until(lambda: _nothing_loaded(ai))

    assert (unloaded.done_reason, unloads.done_reason) == ("unload", "unload")
    assert [expiry.year for expiry in until_s if expiry is not None] == [2318]  # a request wanted it kept for ever
    assert (loads.response, loads.done, loads.done_reason) == ("", True, "load")
    assert whole.message.content == "".join(line.message.content or "" for line in lines) == one.response
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    last = lines[-1]
    assert (whole.model, last.model, last.done_reason) == ("haiku:latest", "haiku", "stop")
    assert (last.prompt_eval_count, last.eval_count) == (whole.prompt_eval_count, whole.eval_count)
    assert last.total_duration is not None
    assert last.eval_duration is not None
    assert last.total_duration > last.eval_duration > 1_000_000
    assert (raw.eval_count, raw.done_reason) == (2, "length")
    assert "".join(piece or "" for piece in pieces).startswith(raw.response or "?")
    assert "".join(piece or "" for piece in pieces).partition("\n")[0] == stopped.response
    assert done == [("completed", "haiku")] * 7


async def _nothing_loaded(ai: AsyncClient) -> bool:
    return not (await ai.ps()).models


async def test_what_is_loaded_and_known_is_told_and_refusals_are_the_librarys_own_errors(tmp_path: Path) -> None:
    async with whole_system(tmp_path) as system, AsyncClient(host=system.url) as ai:
        before = (await ai.ps()).models
        await ai.generate(model="haiku", prompt=POEM)
        [loaded] = (await ai.ps()).models
        [tag] = (await ai.list()).models
        shown = await ai.show("haiku")
        refused = []
        for asked in (
            ai.generate(model="haik", prompt="x"),
            ai.generate(model="haiku", prompt="x", options={"temperature": 3}),
            ai.chat(model="haiku", messages=CHAT, keep_alive="soon"),
            ai.chat(model="haiku", messages=CHAT, tools=[WEATHER]),
            ai.show("tinyllama"),
            ai.embed("haiku", "x"),
            ai.pull("file:/nowhere.gguf"),
        ):
            with pytest.raises(ollama.ResponseError) as found:
                await asked
            refused.append((found.value.status_code, found.value.error))
        with pytest.raises(ollama.ResponseError, match="no model is called 'haik'; did you mean haiku"):
            async for _ in await ai.generate(model="haik", prompt="x", stream=True):
                pass

    assert before == []
    assert (loaded.name, tag.model, tag.digest) == ("haiku:latest", "haiku:latest", loaded.digest)
    assert loaded.size is not None
    assert loaded.size > 0
    assert tag.details is not None
    assert (tag.details.family, tag.details.quantization_level) == ("llama", "Q8_0")
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == loaded.context_length == 512
    assert shown.capabilities == ["completion"]
    assert [status for status, _ in refused] == [404, 400, 400, 400, 404, 400, 404]
    assert "options.temperature" in refused[1][1]
    assert "keep_alive" in refused[2][1]
    assert "tools" in refused[3][1]


async def test_tools_are_called_thoughts_told_apart_forms_kept_and_chances_told(tmp_path: Path) -> None:
    models = tmp_path / "all/pool/models"
    models.mkdir(parents=True)
    scribe = f"file:{scribes.write(models / 'scribe.gguf', scribes.CALLING)}"
    thinker = scribes.write(
        models / "thinker.gguf", ["I see", " rain\n</think>\n\n", "It rains"], template=scribes.THINKING
    )
    async with whole_system(tmp_path) as system, AsyncClient(host=system.url) as ai:
        await until(lambda: _lists(ai, f"file:{thinker}"))
        able = [(await ai.show(model)).capabilities for model in (scribe, f"file:{thinker}")]
        called = await ai.chat(model=scribe, messages=CHAT, tools=[WEATHER])
        history = [*CHAT, called.message, {"role": "tool", "tool_name": "get_weather", "content": "rain"}]
        lines = [line async for line in await ai.chat(model=scribe, messages=history, tools=[WEATHER], stream=True)]
        cut_off = [*CHAT, {"role": "assistant", "content": None}, {"role": "tool", "content": "rain"}]
        trimmed = await ai.chat(model=scribe, messages=cut_off, tools=[WEATHER])
        thought = await ai.chat(model=f"file:{thinker}", messages=CHAT, think=True)
        pieces = [
            line async for line in await ai.generate(model=f"file:{thinker}", prompt=POEM, think=True, stream=True)
        ]
        formed = await ai.chat(model="haiku", messages=CHAT, format=PLACE, options={"num_predict": 60})
        some = await ai.generate(model="haiku", prompt=POEM, format="json", options={"num_predict": 9})
        few = {"temperature": 0, "num_predict": 5}
        likely = await ai.chat(model="haiku", messages=CHAT, options=few, logprobs=True, top_logprobs=2)
        each = [
            line
            async for line in await ai.generate(model="haiku", prompt=POEM, options=few, logprobs=True, stream=True)
        ]

    [call] = called.message.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Berlin", "days": 2})
    assert (called.message.content, called.done_reason) == ("Let me look. ", "stop")
    assert [line.message.tool_calls for line in lines if line.message.tool_calls] == [[call]]
    assert able == [["completion", "tools"], ["completion", "thinking"]]
    assert "".join(line.message.content or "" for line in lines) == "Let me look. "
    assert trimmed.message.tool_calls == [call]
    assert (thought.message.content, thought.message.thinking) == ("It rains", "I see rain\n")
    assert "".join(piece.response or "" for piece in pieces) == "It rains"
    assert "".join(piece.thinking or "" for piece in pieces) == "I see rain\n"
    assert list(json.loads(formed.message.content or "")) == ["city", "days"]
    assert (some.response or "").startswith("{")
    chances = likely.logprobs or []
    assert "".join(chance.token for chance in chances) == likely.message.content
    assert [len(chance.top_logprobs or ()) for chance in chances] == [2] * len(chances) != []
    assert all(chance.top_logprobs and chance.top_logprobs[0].token == chance.token for chance in chances)
    told = [(line.response, [chance.token for chance in line.logprobs or ()]) for line in each]
    assert all("".join(tokens) == text for text, tokens in told)
    assert all(chance.top_logprobs is None and chance.logprob <= 0 for line in each for chance in line.logprobs or ())


async def test_a_model_is_pulled_with_its_progress_used_and_deleted(tmp_path: Path, hub: Hub) -> None:
    async with whole_system(tmp_path) as system, AsyncClient(host=system.url) as ai:
        name = "hf.co/org/tiny:q4_0"
        with pytest.raises(ollama.ResponseError, match=r"no model of that quantisation; it has: tiny-Q4_0\.gguf"):
            await ai.pull("hf.co/org/tiny:Q5_K_M")
        with pytest.raises(ollama.ResponseError, match="pull it first"):
            await ai.show(name)
        lines = [line async for line in await ai.pull(name, stream=True)]
        ref = hub.ref("org/tiny", QUANTISED)
        await until(lambda: _lists(ai, ref))
        again = await ai.pull(name)
        answer = await ai.generate(model=name, prompt="x", options={"num_predict": 1})
        models = {model for _, model in await jobs(system)}
        await ai.pull("hf.co/org/tiny:tiny-Q8_0.gguf")
        unused = hub.ref("org/tiny", "tiny-Q8_0.gguf")
        await until(lambda: _lists(ai, unused))
        deleted = await ai.delete("hf.co/org/tiny:tiny-Q8_0.gguf")
        await until(lambda: _lists_not(ai, unused))
        with pytest.raises(ollama.ResponseError, match="no host has this model"):
            await ai.delete(unused)

    assert (lines[0].status, lines[-1].status, again.status) == ("pulling manifest", "success", "success")
    assert any(line.total and line.completed == line.total for line in lines)
    assert answer.eval_count == 1
    assert models == {f"hf:org/tiny::file={QUANTISED}"}
    assert deleted.status == "success"


async def _lists(ai: AsyncClient, ref: str) -> bool:
    return ref in [tag.model for tag in (await ai.list()).models]


async def _lists_not(ai: AsyncClient, ref: str) -> bool:
    return not await _lists(ai, ref)


async def test_a_client_that_leaves_takes_its_job_with_it(tmp_path: Path) -> None:
    async with whole_system(tmp_path) as system, AsyncClient(host=system.url) as ai:
        waiting = asyncio.create_task(  # noqa: TID251 - cancelled right here
            ai.generate(model=NOWHERE, prompt=POEM)
        )
        await until(lambda: jobs(system))
        waiting.cancel()
        await asyncio.wait([waiting])

        [(_, model)] = await until(lambda: _cancelled(system))

    assert model == NOWHERE


async def _cancelled(system: Role) -> list[tuple[str, str]]:
    return [job for job in await jobs(system) if job[0] == "cancelled"]


async def test_a_wrong_token_is_refused_in_ollamas_words(tmp_path: Path) -> None:
    arguments = ("--port", "0", "--data-dir", str(tmp_path / "o"))
    env = {"LLORCH_API_TOKEN": "a-token-of-this-test"}
    known = {"Authorization": "Bearer a-token-of-this-test"}
    async with (
        role("orchestrator", *arguments, log=tmp_path / "log", env=env) as system,
        AsyncClient(host=system.url, headers=known) as friend,
        AsyncClient(host=system.url) as stranger,
    ):
        models = (await friend.list()).models
        with pytest.raises(ollama.ResponseError) as refused:
            await stranger.list()

    assert models == []
    assert (refused.value.status_code, refused.value.error.partition(";")[0]) == (
        401,
        "this address needs a bearer token",
    )
