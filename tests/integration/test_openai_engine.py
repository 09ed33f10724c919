"""A worker whose engine is a server that is not llorch's: llama.cpp's own, as a process on a TCP port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from msgspec import convert

from llorch.errors import EngineFailed
from llorch.serve import running
from llorch.settings import Server
from roles.worker.backend import openai_engine
from tests.support import models
from tests.support.servers import LlamaServer, free_port, llama_server
from tests.support.workers import Worker, going_on, last, text_of, tokens_of, worker, worker_process

HAIKU = Path(__file__).parents[2] / "llorch/assets/haiku.gguf"
POEM = "Write a haiku about rain"
PROMPT: dict[str, Any] = {"prompt": POEM, "temperature": 0, "max_tokens": 40}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": POEM}], "temperature": 0, "max_tokens": 60}
KEY = "a-key-that-must-stay-secret"


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    with llama_server(HAIKU, tmp_path_factory.mktemp("server"), key=KEY) as server:
        yield server


@pytest.fixture(name="key_file", scope="module")
def _key_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("key") / "key"
    file.touch(0o600)
    file.write_text(f"{KEY}\n")
    return str(file)


def options(**keys: object) -> dict[str, Any]:
    """Return what makes a worker one of a server."""
    return {"engine": "openai", "model_ref": f"server:other/{LlamaServer.name}", "server": convert(keys, Server)}


@asynccontextmanager
async def served(server: LlamaServer, key_file: str) -> AsyncIterator[Worker]:
    async with worker(Path("server:other/x"), **options(url=server.url, api_key_file=key_file)) as found:
        yield found


@asynccontextmanager
async def busy_front(
    server: LlamaServer, refusals: int, *, status: int = 429, hidden: Sequence[str] = ()
) -> AsyncIterator[str]:
    """Stand before a server and refuse so many requests, as gateways do; what they say can quote the request.

    Of a path that is hidden it knows nothing: the server looks like one of another kind.
    """
    left = refusals

    async def passed_on(request: web.Request) -> web.StreamResponse:
        nonlocal left
        if request.path in hidden:
            return web.Response(status=status if refusals and status >= 500 else 404)
        if request.path == "/v1/completions" and left:
            left -= 1
            told = {"error": {"message": f"not this: {POEM}", "type": "BadRequestError", "code": status}}
            return web.json_response(told, status=status, headers={"Retry-After": "0"})
        body = await request.read()
        async with http.request(request.method, request.path, data=body or None, headers=dict(request.headers)) as came:
            answer = web.StreamResponse(status=came.status)
            await answer.prepare(request)
            async for data in came.content.iter_any():
                await answer.write(data)
            return answer

    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", passed_on)])
    async with aiohttp.ClientSession(server.url.removesuffix("/v1")) as http, running(app, "127.0.0.1", 0) as url:
        yield url


async def test_a_servers_text_is_the_one_of_our_own_engine(server: LlamaServer, key_file: str) -> None:
    async with served(server, key_file) as there, worker(HAIKU, slots=2, ctx=256) as here:
        texts = [[await each.text(f"{n}", **job) for n, job in enumerate((PROMPT, CHAT))] for each in (there, here)]
        events = await there.execute("again", **CHAT)
        counted = [
            await (await each.http.post("/count", json={"messages": CHAT["messages"]})).json() for each in (there, here)
        ]
        health = await there.health()

    assert texts[0] == texts[1]
    assert len(texts[0][1].splitlines()) == 3
    assert counted == [{"tokens": 18, "context_length": 256, "exact": True}] * 2
    assert last(events).items() >= {"kind": "end", "tokens_in": 18, "tokens_out": 28, "stop_reason": "eos"}.items()
    assert [token.ids for token in tokens_of(events)] == [[]] * len(tokens_of(events))
    assert (health.engine, health.slots, health.context_length) == ("openai", 2, 256)


@pytest.mark.parametrize("job", [PROMPT, CHAT])
async def test_an_answer_goes_on_behind_the_text_that_is_there(
    server: LlamaServer, key_file: str, job: dict[str, object]
) -> None:
    async with served(server, key_file) as found:
        whole = await found.execute("whole", **job)
        seen = tokens_of(whole)[:9]
        rest = await found.execute("rest", attempt=2, **job | going_on(seen, 60) | {"max_tokens": 40})

    assert "".join(token.t for token in seen) + text_of(rest) == text_of(whole)
    assert text_of(rest)


async def test_stop_sequences_chances_and_bans_do_what_they_do_elsewhere(server: LlamaServer, key_file: str) -> None:
    async with served(server, key_file) as found:
        stopped = await found.execute("stop", **PROMPT, stop=["\n"])
        chances = await found.execute("chances", **PROMPT, logprobs=True, top_logprobs=2)
        talk = await found.execute("talk", **CHAT, logprobs=True, top_logprobs=1)
        banned = await found.text("banned", **PROMPT, logit_bias={"544": -100})
        whole = await found.text("whole", **PROMPT)

    first = tokens_of(chances)[0].logprobs
    assert text_of(stopped) == whole.partition("\n")[0]
    assert last(stopped)["stop_reason"] == "stop_sequence"
    assert isinstance(first, list)
    assert [(one.token, len(one.top_logprobs), one.logprob < 0) for one in first] == [("The", 2, True)]
    assert all(isinstance(token.logprobs, list) for token in tokens_of(talk) if token.t)
    assert whole.startswith("The")
    assert not banned.startswith("The")


async def test_a_prompt_that_the_servers_context_cannot_hold_is_refused_before_it_is_sent(
    server: LlamaServer, key_file: str
) -> None:
    async with served(server, key_file) as found:
        status, code, details = await found.refusal("POST", "/execute", {"job_id": "long", "prompt": "secret " * 400})

    assert (status, code) == (400, "INVALID_REQUEST")
    assert details["context_length"] == 256


@pytest.mark.parametrize(
    ("status", "code", "retriable", "words"),
    [
        (400, "INVALID_REQUEST", False, "does not accept the request (BadRequestError)"),
        (422, "INVALID_REQUEST", False, "does not accept the request (BadRequestError)"),
        (401, "ENGINE_FAILED", True, "it answered with status 401"),
        (500, "ENGINE_FAILED", True, "it answered with status 500 (BadRequestError)"),
    ],
)
async def test_a_refusal_of_the_server_is_told_by_whose_fault_it_is_and_without_the_prompt(
    server: LlamaServer, key_file: str, status: int, code: str, retriable: bool, words: str
) -> None:
    async with (
        busy_front(server, 1, status=status) as url,
        worker(Path("server:other/x"), **options(url=url, api_key_file=key_file)) as found,
    ):
        told = last(await found.execute("refused", **PROMPT))

    assert (told["kind"], told["code"], told["retriable"]) == ("error", code, retriable)
    assert words in str(told["message"])
    assert POEM not in str(told["message"])


async def test_a_server_that_is_not_told_how_much_to_write_writes_no_more_than_was_asked_for(
    server: LlamaServer, key_file: str
) -> None:
    body = {**CHAT, "max_tokens": 12}
    async with busy_front(server, 0, hidden=["/props"]) as url:
        keys = {"url": url, "api_key_file": key_file, "context": 16}
        async with worker(Path("server:other/x"), **options(**keys)) as found:
            told = last(await found.execute("long", **body))

    assert told["stop_reason"] == "max_tokens"
    assert 0 < int(str(told["tokens_out"])) <= 12


async def test_a_gateway_whose_server_is_gone_ends_the_worker(
    server: LlamaServer, key_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_engine, "CHECK_EVERY_S", 0.05)
    gone: list[str] = []
    ends: list[dict[str, object]] = []

    async def live(url: str) -> None:
        async with worker(Path("server:other/x"), **options(url=url, api_key_file=key_file)) as found:
            gone.append("/v1/models")
            ends.append(last(await found.execute("lost", **PROMPT)))
            await asyncio.sleep(60)

    async with busy_front(server, 1, status=502, hidden=gone) as url:
        with pytest.raises(EngineFailed, match="it answered with status 502"):
            await live(url)

    assert [(end["code"], end["retriable"]) for end in ends] == [("ENGINE_FAILED", True)]


async def test_tools_that_the_models_template_does_not_know_are_refused(server: LlamaServer, key_file: str) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

    async with served(server, key_file) as found:
        _, code, details = await found.refusal("POST", "/execute", {"job_id": "tool", **CHAT, "tools": [tool]})

    assert code == "INVALID_REQUEST"
    assert details == {"fields": [{"field": "tools", "problem": "the model's chat template knows no tools"}]}


async def test_what_was_put_out_and_is_no_text_cannot_be_continued(server: LlamaServer, key_file: str) -> None:
    async with served(server, key_file) as found:
        _, code, _ = await found.refusal("POST", "/execute", {"job_id": "x", "attempt": 2, "first_token": 3, **CHAT})

    assert code == "CANNOT_CONTINUE"


@pytest.mark.parametrize("content", ["another-key", None])
async def test_a_key_that_is_not_accepted_is_told_as_a_fault_of_the_configuration(
    server: LlamaServer, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "key"
    if content:
        file.touch(0o600)
        file.write_text(content)
    told = {"url": server.url, "api_key_file": str(file) if content else ""}
    reference = {"engine": "openai", "model_ref": f"server:other/{LlamaServer.name}", "server": told}

    async with worker_process(Path("server:other/x"), **reference) as process:
        status, lines = await process.end()

    assert status == 1
    assert lines[-1].endswith(
        "it does not accept the key; see api_key_file of [pool.servers.other] in the configuration"
    )
    assert "another-key" not in "".join(lines)


async def test_a_worker_without_its_server_or_model_says_which_is_missing(server: LlamaServer, key_file: str) -> None:
    away = {"url": f"http://127.0.0.1:{free_port()}/v1"}
    foreign = {"url": server.url, "api_key_file": key_file}
    found = []
    for name, told in ((LlamaServer.name, away), ("org/none", foreign)):
        reference = {"engine": "openai", "model_ref": f"server:other/{name}", "server": told}
        async with worker_process(Path("server:other/x"), **reference) as process:
            found.append((await process.end())[1][-1])

    assert found == [
        f"llorch: the server other cannot be reached at {away['url'].removesuffix('/v1')}",
        "llorch: the server other does not list the model any more, or never did",
    ]


async def test_a_server_that_dies_fails_its_job_and_ends_the_worker(tmp_path: Path) -> None:
    shape = models.Shape(n_embd=256, n_layer=8, n_head=4, n_ff=704, ctx=2048)
    model = models.make(tmp_path / "slow.gguf", shape)
    with llama_server(model, tmp_path, ctx=2048) as server:
        told = {"url": server.url}
        reference = {"engine": "openai", "model_ref": f"server:other/{LlamaServer.name}", "server": told}
        async with worker_process(Path("server:other/x"), **reference) as process:
            await process.worker.ready()
            body = {"job_id": "j", "prompt": "bake kilo", "max_tokens": 1900, "temperature": 0}
            async with process.worker.http.post("/execute", json=body) as answer:
                while b"event: token" not in await answer.content.readany():
                    pass
                server.kill()
                rest = await answer.content.read()
            status, lines = await process.end()

    assert b'"code":"ENGINE_FAILED"' in rest
    assert b'"retriable":true' in rest
    assert status == 1
    assert "the server other" in lines[-1]


async def test_a_cancelled_job_leaves_the_server(tmp_path: Path) -> None:
    model = models.make(tmp_path / "endless.gguf", models.Shape(n_embd=256, n_layer=8, n_head=4, n_ff=704, ctx=2048))
    with llama_server(model, tmp_path, ctx=2048) as server:
        async with (
            worker(Path("server:other/x"), **options(url=server.url)) as found,
            aiohttp.ClientSession(server.url.removesuffix("/v1")) as http,
        ):
            body = {"job_id": "j", "prompt": "bake kilo", "max_tokens": 1900, "temperature": 0}
            async with found.http.post("/execute", json=body) as answer:
                while b"event: token" not in await answer.content.readany():
                    pass
                await found.http.post("/cancel", json={"job_id": "j"})
                rest = await answer.content.read()
            async with asyncio.timeout(20):
                while any(slot["is_processing"] for slot in await (await http.get("/slots")).json()):
                    await asyncio.sleep(0.01)

    assert b'"code":"CANCELLED"' in rest


async def test_a_server_with_too_many_requests_is_given_time_and_left_in_the_end(
    server: LlamaServer, key_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(server, key_file) as direct:
        whole = await direct.text(**PROMPT)
    async with (
        busy_front(server, 3) as url,
        worker(Path("server:other/x"), **options(url=url, api_key_file=key_file)) as found,
    ):
        patient = await found.text("patient", **PROMPT)
    monkeypatch.setattr(openai_engine, "LONGEST_WAIT_S", 0.25)
    async with (
        busy_front(server, 100) as url,
        worker(Path("server:other/x"), **options(url=url, api_key_file=key_file)) as found,
    ):
        given_up = await found.execute("given-up", **PROMPT)

    assert patient == whole
    assert last(given_up) == {
        "kind": "error",
        "code": "ENGINE_FAILED",
        "message": "the server other has too many requests",
        "retriable": True,
    }
