"""A browser reads a job with its own EventSource, and sees each token once although the orchestrator is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.processes import pool_role, role, text_of, until
from tests.support import browser, models

STEADY = models.Shape(n_embd=320, n_layer=6, n_head=5, n_ff=864, ctx=512)
READ = """
window.seen = [];
window.source = new EventSource('/v2/tasks/%s/events');
window.opened = 0;
source.addEventListener('open', () => { opened += 1; });
for (const kind of ['queued', 'loading', 'started', 'metrics', 'token', 'end', 'error'])
  source.addEventListener(kind, (event) => {
    if (event.data === undefined) return;   // the browser's own word for a lost connection
    seen.push([kind, event.lastEventId, JSON.parse(event.data)]);
    if (kind === 'end' || kind === 'error') source.close();
  });
"""


@pytest.mark.slow
async def test_an_event_source_in_a_browser_gets_every_token_once_over_a_killed_orchestrator(tmp_path: Path) -> None:
    steady = models.make(tmp_path / "steady.gguf", STEADY)
    task = {"model": f"file:{steady}", "prompt": "one two three", "max_tokens": 300, "temperature": 0}
    data, log = str(tmp_path / "orchestrator"), tmp_path / "log"
    async with (
        browser.page(tmp_path / "profile") as page,
        role("orchestrator", "--port", "0", "--data-dir", data, log=log) as first,
        pool_role(tmp_path, first.url),
    ):
        job = await first.submit(**task)
        await page.open(f"{first.url}/health")
        await page.evaluate(READ % job.job_id)

        async def some_tokens() -> bool:
            return bool(await page.evaluate("seen.some(([kind, id]) => kind === 'token' && id === '30.0')"))

        await until(some_tokens)
        await first.stop(signal.SIGKILL)
        before = await page.evaluate("seen.length")
        port = first.url.rpartition(":")[2]
        async with role("orchestrator", "--port", port, "--data-dir", data, log=log) as second:

            async def closed() -> bool:
                return bool(await page.evaluate("source.readyState === EventSource.CLOSED"))

            await until(closed, 90)
            seen = await page.evaluate("seen")
            opened = await page.evaluate("opened")
            whole = text_of(await second.events(job.job_id))

    tokens = [data for kind, _, data in seen if kind == "token"]
    ids = [tuple(map(int, event_id.split("."))) for _, event_id, _ in seen]
    assert opened >= 2
    assert before < len(seen)
    assert [token["i"] for token in tokens] == list(range(len(tokens)))
    assert ids == sorted(set(ids))
    assert seen[-1][0] == "end"
    assert seen[-1][2]["tokens_out"] == 300
    assert "".join(token["t"] for token in tokens) == whole
