"""Web pages before real servers: what those of elsewhere cannot do, and what those that are welcome can read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from llorch.config import load
from llorch.serve import running
from roles.orchestrator.app import create
from tests.support.orchestrating import REF, ScriptedWorker, both, orchestrator
from tests.support.pools import running_pool
from tests.support.workers import worker

EVIL = {"Origin": "https://evil.example"}
EVIL_HOST = {"Host": "evil.example:8080"}
APP = "app://obsidian.md"
TASK = {"model": REF, "prompt": "say something"}
CHAT = {"model": REF, "messages": [{"role": "user", "content": "say something"}]}
PURGE = "/v2/tasks/purge"
ALL = '{"older_than_ms":0}'
HAIKU = Path("llorch/assets/haiku.gguf")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def code(self) -> str:
        """The code of an error in llorch's own form."""
        return str(json.loads(self.body)["error"]["code"])

    @property
    def cors(self) -> dict[str, str]:
        """What a browser is told about pages."""
        told = ("access-control", "vary")
        return {name.lower(): value for name, value in self.headers.items() if name.lower().startswith(told)}


class Web:
    """Sends requests as they are, without a token of its own."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, *, body: object = None
    ) -> Answer:
        """Send a request; a text goes as a page sends one without a preflight."""
        plain = {"Content-Type": "text/plain"} if isinstance(body, str) else {}
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        async with self._http.request(method, path, data=data, headers={**plain, **(headers or {})}) as answer:
            return Answer(answer.status, dict(answer.headers), await answer.text())


@asynccontextmanager
async def web_to(url: str) -> AsyncIterator[Web]:
    async with aiohttp.ClientSession(url) as http:
        yield Web(http)


@asynccontextmanager
async def web_to_one_open_to(origins: list[str], data_dir: Path) -> AsyncIterator[Web]:
    """Send to an orchestrator that is configured for these pages."""
    flags: dict[str, dict[str, object]] = {"orchestrator": {"data_dir": str(data_dir)}, "auth": {"origins": origins}}
    async with running(create(load(env={}, overrides=flags)), "127.0.0.1", 0) as url, web_to(url) as web:
        yield web


@pytest.mark.parametrize(
    "headers",
    [
        EVIL,
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        EVIL_HOST,
        {"Origin": "http://evil.example:8080", **EVIL_HOST},
    ],
    ids=str,
)
async def test_a_page_of_elsewhere_erases_and_starts_nothing(headers: dict[str, str], tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker()) as system, web_to(system.url) as web:
        job = await system.submit()
        before = await system.stream(job.job_id)

        refused = [
            await web.ask("POST", PURGE, headers, body=ALL),
            await web.ask("DELETE", f"/v2/tasks/{job.job_id}", headers),
            await web.ask("POST", "/v2/tasks", headers, body=json.dumps(TASK)),
        ]
        counted = await web.ask("POST", PURGE, body='{"older_than_ms":0,"dry_run":true}')
        after = await system.stream(job.job_id)

    code = "HOST_NOT_ALLOWED" if "Host" in headers else "ORIGIN_NOT_ALLOWED"
    assert [(answer.status, answer.code, answer.cors) for answer in refused] == [(403, code, {})] * 3
    assert json.loads(counted.body)["jobs"] == {"completed": 1}
    assert b"event: token" in before
    assert after == before


async def test_a_page_whose_own_name_leads_here_reads_nothing(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system, web_to(system.url) as web:
        port = system.url.rpartition(":")[2]
        refused = [await web.ask("GET", path, EVIL_HOST) for path in ("/v2/tasks", "/health", "/nowhere")]
        known = [await web.ask("GET", "/v2/tasks", {"Host": f"{n}:{port}"}) for n in ("localhost", "a.local", "[::1]")]

    assert [(answer.status, answer.code) for answer in refused] == [(403, "HOST_NOT_ALLOWED")] * 3
    assert [answer.status for answer in known] == [200, 200, 200]


async def test_with_a_token_any_name_may_lead_here_and_a_proxy_may_pass_it_on(tmp_path: Path) -> None:
    own = {"Authorization": "Bearer t", "Host": "llm.example", "Origin": "https://llm.example"}
    async with orchestrator(tmp_path, token="t") as system, web_to(system.url) as web:
        named = await web.ask("GET", "/v2/tasks", {"Authorization": "Bearer t", **EVIL_HOST})
        proxied = await web.ask("POST", PURGE, own, body=ALL)
        foreign = await web.ask("POST", PURGE, {**own, **EVIL}, body=ALL)

    assert (named.status, proxied.status) == (200, 200)
    assert proxied.cors["access-control-allow-origin"] == "https://llm.example"
    assert (foreign.status, foreign.code) == (403, "ORIGIN_NOT_ALLOWED")


async def test_a_preflight_is_answered_before_a_token_is_asked_for(tmp_path: Path) -> None:
    asked = {
        "Origin": APP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
        "Access-Control-Request-Private-Network": "true",
    }
    async with orchestrator(tmp_path, token="t") as system, web_to(system.url) as web:
        answers = [await web.ask("OPTIONS", path, asked) for path in ("/v1/chat/completions", "/api/tags", "/nowhere")]
        broken = await web.ask("OPTIONS", "/api/tags", {**asked, "Access-Control-Request-Headers": "é;{}"})
        evil = await web.ask("OPTIONS", "/v1/chat/completions", {**asked, **EVIL})
        none = await web.ask("OPTIONS", "/v1/chat/completions", {"Authorization": "Bearer t"})

    assert [(answer.status, answer.body) for answer in answers] == [(204, "")] * 3
    assert answers[0].cors == {
        "access-control-allow-origin": APP,
        "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
        "access-control-allow-headers": "authorization,content-type,x-stainless-os",
        "access-control-allow-private-network": "true",
        "access-control-max-age": "7200",
        "access-control-expose-headers": "X-Job-Id, X-Correlation-Id, X-Request-Id, Request-Id, Location, Retry-After",
        "vary": "Origin",
    }
    assert broken.status == 204
    assert "access-control-allow-headers" not in broken.cors
    assert (evil.status, evil.code, evil.cors) == (403, "ORIGIN_NOT_ALLOWED", {})
    assert (none.status, none.code, none.headers["Allow"]) == (405, "METHOD_NOT_ALLOWED", "POST")


async def test_errors_tell_a_welcome_page_what_they_are(tmp_path: Path) -> None:
    page = {"Origin": "http://localhost:3000"}
    async with orchestrator(tmp_path, token="t") as system, web_to(system.url) as web:
        known = {**page, "Authorization": "Bearer t"}
        answers = [
            await web.ask("GET", "/v1/models", page),
            await web.ask("GET", "/nowhere", known),
            await web.ask("PUT", "/v2/tasks", known),
            await web.ask("POST", "/v1/chat/completions", known, body="{"),
        ]

    assert [answer.status for answer in answers] == [401, 404, 405, 400]
    for answer in answers:
        assert answer.cors["access-control-allow-origin"] == "http://localhost:3000"
        assert answer.cors["vary"] == "Origin"


async def test_a_refusal_has_the_form_that_the_address_speaks(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system, web_to(system.url) as web:
        openai = await web.ask("POST", "/v1/chat/completions", EVIL, body=CHAT)
        anthropic = await web.ask("POST", "/v1/messages", EVIL, body=CHAT)
        ollama = await web.ask("POST", "/api/chat", EVIL, body=CHAT)

    assert [openai.status, anthropic.status, ollama.status] == [403, 403, 403]
    error = json.loads(openai.body)["error"]
    assert (error["type"], error["code"]) == ("permission_error", "ORIGIN_NOT_ALLOWED")
    assert json.loads(anthropic.body)["error"]["type"] == "permission_error"
    assert json.loads(ollama.body) == {"error": error["message"]}


async def test_a_welcome_page_reads_streams_and_the_job_s_id(tmp_path: Path) -> None:
    page = {"Origin": "vscode-webview://1f2e", "Accept": "text/event-stream"}
    async with both(tmp_path, ScriptedWorker()) as system, web_to(system.url) as web:
        own = await web.ask("POST", "/v2/tasks", page, body=TASK)
        openai = await web.ask("POST", "/v1/chat/completions", page, body={**CHAT, "stream": True})
        ollama = await web.ask("POST", "/api/chat", page, body=CHAT)

    assert "event: end" in own.body
    assert openai.body.endswith("data: [DONE]\n\n")
    assert json.loads(ollama.body.splitlines()[-1])["done"] is True
    for answer in (own, openai, ollama):
        assert answer.status == 200
        assert answer.cors["access-control-allow-origin"] == "vscode-webview://1f2e"
        assert "X-Job-Id" in answer.cors["access-control-expose-headers"]
        assert "X-Job-Id" in answer.headers


async def test_who_is_no_browser_notices_nothing(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system, web_to(system.url) as web:
        purged = await web.ask("POST", PURGE, body=ALL)
        listed = await web.ask("GET", "/v1/models", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})

    assert (purged.status, purged.cors) == (200, {})
    assert (listed.status, listed.cors) == (200, {})


async def test_the_operator_lets_in_other_pages_and_names(tmp_path: Path) -> None:
    async with web_to_one_open_to(["https://chat.example", "http://*.lan:*"], tmp_path) as web:
        origins = ("https://chat.example", "http://nas.lan:3000", "https://nas.lan", "https://evil.example")
        pages = [await web.ask("GET", "/v1/models", {"Origin": origin}) for origin in origins]
        names = [await web.ask("GET", "/v1/models", {"Host": h}) for h in ("chat.example", "nas.lan:80", "lan")]

    assert [answer.status for answer in pages] == [200, 200, 403, 403]
    assert [answer.status for answer in names] == [200, 200, 403]


async def test_everybody_is_let_in_where_the_operator_says_so(tmp_path: Path) -> None:
    async with web_to_one_open_to(["*"], tmp_path) as web:
        answers = [await web.ask("GET", "/v1/models", {"Origin": origin}) for origin in ("https://a.example", "null")]

    assert [answer.cors["access-control-allow-origin"] for answer in answers] == ["https://a.example", "null"]


async def test_a_refused_page_is_told_in_the_log_once(tmp_path: Path) -> None:
    async with orchestrator(tmp_path) as system, web_to(system.url) as web:
        with capture_logs() as told:
            for origin in ("https://evil.example", "https://evil.example", "https://other.example"):
                await web.ask("POST", PURGE, {"Origin": origin}, body=ALL)

    reasons = [one["reason"] for one in told if one["event"] == "page_refused"]
    assert [reason.split("'")[1] for reason in reasons] == ["https://evil.example", "https://other.example"]


async def test_a_pool_and_a_worker_are_shut_to_pages_of_elsewhere_too(tmp_path: Path) -> None:
    async with (
        running_pool(tmp_path / "pool", port=0) as pool,
        worker(HAIKU, ready=False) as alone,
        web_to(pool.url) as to_pool,
        web_to(alone.url) as to_worker,
    ):
        refused = [
            await to_pool.ask("POST", "/v2/workers/spawn", EVIL, body='{"model_ref":"haiku"}'),
            await to_pool.ask("GET", "/v2/workers", EVIL_HOST),
            await to_worker.ask("POST", "/shutdown", EVIL, body="{}"),
            await to_worker.ask("GET", "/health", EVIL_HOST),
        ]
        workers = await to_pool.ask("GET", "/v2/workers")
        health = await to_worker.ask("GET", "/health", {"Origin": "http://localhost:1"})

    assert [(answer.status, answer.code) for answer in refused] == [
        (403, "ORIGIN_NOT_ALLOWED"),
        (403, "HOST_NOT_ALLOWED"),
    ] * 2
    assert json.loads(workers.body)["workers"] == []
    assert health.status == 200
