"""OpenAI's own Python library, unmodified, has a batch carried out by real processes, of which one is killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from urllib.parse import urlsplit

from openai import AsyncOpenAI
from openai.types import Batch

from llorch.wire.tasks import TaskPage
from tests.e2e.processes import orchestrator_role, pool_role, role, until

COUNT = 60
TOPICS = ("rain", "tea", "snow")


def line(number: int) -> dict[str, object]:
    """Return a request."""
    prompt = f"Write a haiku about {TOPICS[number % len(TOPICS)]}"
    body = {"model": "haiku", "prompt": prompt, "temperature": 0, "max_tokens": 30}
    return {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/completions", "body": body}


async def test_a_batch_survives_a_killed_orchestrator_with_every_line_once(tmp_path: Path) -> None:
    async with (
        orchestrator_role(tmp_path) as first,
        pool_role(tmp_path, first.url),
        AsyncOpenAI(base_url=f"{first.url}/v1", api_key="unused", _strict_response_validation=True) as ai,
    ):
        content = "".join(json.dumps(line(number)) + "\n" for number in range(COUNT))
        file = await ai.files.create(file=("in.jsonl", content.encode()), purpose="batch")
        batch = await ai.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")

        async def reached(count: int) -> Batch | None:
            found = await ai.batches.retrieve(batch.id)
            assert found.status in {"validating", "in_progress", "finalizing", "completed"}
            counts = found.request_counts
            return found if counts is not None and counts.completed >= count else None

        async def ended() -> Batch | None:
            found = await reached(COUNT)
            return found if found is not None and found.status == "completed" else None

        middle = await until(lambda: reached(5))
        await first.stop(signal.SIGKILL)
        arguments = ("--port", str(urlsplit(first.url).port), "--data-dir", str(tmp_path / "orchestrator"))
        async with role("orchestrator", *arguments, log=tmp_path / "log") as second:
            done = await until(ended, 120)
            output = await ai.files.content(str(done.output_file_id))
            page = await second.client.send("GET", "/v2/tasks", TaskPage, params={"limit": "200"})

    found = [json.loads(text) for text in output.text.splitlines()]
    assert [entry["custom_id"] for entry in found] == [f"line-{number}" for number in range(COUNT)]
    answers = [entry["response"]["body"] for entry in found]
    assert all(answer["choices"][0]["text"] and answer["usage"]["completion_tokens"] for answer in answers)
    assert (done.error_file_id, middle.status) == (None, "in_progress")
    jobs = [task for task in page.tasks if task.priority == "batch"]
    assert [(task.status, task.session_id) for task in jobs] == [("completed", batch.id)] * COUNT
