"""Pages in a real browser: one of this machine uses an orchestrator, one of elsewhere can do nothing to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from llorch.serve import running
from tests.e2e.processes import whole_system
from tests.support import browser

EVIL = "--host-resolver-rules=MAP evil.example 127.0.0.1"
READ = """
fetch('%s/v1/models').then(async (answer) => (await answer.json()).data.map((model) => model.id))
"""
STREAM = """
fetch('%s/v1/chat/completions', {
  method: 'POST',
  headers: {'Content-Type': 'application/json', Authorization: 'Bearer any', 'X-Stainless-OS': 'Unknown'},
  body: JSON.stringify({model: 'haiku', stream: true, messages: [{role: 'user', content: 'a haiku about rain'}]}),
}).then(async (answer) => {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value;
  return [answer.status, answer.headers.get('X-Job-Id'), text];
})
"""
MISSING = """
fetch('%s/v1/models/nothing').then(async (answer) => [answer.status, (await answer.json()).error.code])
"""
ERASE = """
fetch('%s/v2/tasks/purge', {method: 'POST', mode: 'no-cors', body: '{"older_than_ms": 0}'})
  .then((answer) => answer.type, (error) => error.name)
"""
ERASE_FROM_A_FRAME = """
new Promise((resolve) => {
  addEventListener('message', (event) => resolve(event.data));
  const frame = document.createElement('iframe');
  frame.sandbox = 'allow-scripts';
  frame.srcdoc = `<script>${%r}.then((kind) => parent.postMessage([origin, kind], '*'))</script>`;
  document.body.append(frame);
})
"""
TRY = """
fetch('%s').then((answer) => answer.text(), (error) => error.name)
"""


@asynccontextmanager
async def page_server() -> AsyncIterator[str]:
    """Serve an empty page; yield its port."""

    async def empty(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><body></body>", content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/", empty)])
    async with running(app, "127.0.0.1", 0) as url:
        yield url.rpartition(":")[2]


async def test_a_page_of_this_machine_uses_it_and_one_of_elsewhere_does_nothing_to_it(tmp_path: Path) -> None:
    async with (
        browser.page(tmp_path / "profile", EVIL) as page,
        whole_system(tmp_path) as orchestrator,
        page_server() as port,
    ):
        url, own_port = orchestrator.url, orchestrator.url.rpartition(":")[2]
        await page.open(f"http://localhost:{port}/")
        status, job_id, text = await page.evaluate(STREAM % url)
        models = await page.evaluate(READ % url)
        missing = await page.evaluate(MISSING % url)

        await page.open(f"http://evil.example:{port}/")
        read = await page.evaluate(TRY % f"{url}/v1/models")
        erased = await page.evaluate(ERASE % url)
        framed = await page.evaluate(ERASE_FROM_A_FRAME % (ERASE % url).strip())
        await page.open(f"http://evil.example:{own_port}/health")
        rebound = await page.evaluate(TRY % "/v2/tasks")
        kept = await orchestrator.task(job_id)
        log = orchestrator.log.read_text().splitlines()

    assert "haiku" in models
    assert status == 200
    assert text.endswith("data: [DONE]\n\n")
    assert missing == [404, "MODEL_NOT_FOUND"]
    assert read == "TypeError"
    assert erased == "opaque"
    assert framed == ["null", "opaque"]
    assert "HOST_NOT_ALLOWED" in rebound
    refused = [json.loads(line)["reason"].split("'")[1] for line in log if "page_refused" in line]
    assert refused == [f"http://evil.example:{port}", "null", f"evil.example:{own_port}"]
    assert kept.status == "completed"
