"""What the roles promise in their OpenAPI documents, tried on running ones with thousands of generated requests.

Schemathesis builds requests from the document, sound ones and broken ones, and holds every answer against it: no
server error, no status, content type or body that is not documented, nothing sound refused, nothing broken accepted.
Same code, same requests: it draws nothing at random.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from llorch.client import Client
from llorch.openapi import document
from llorch.wire.codec import encode
from llorch.wire.tasks import Accepted
from llorch.wire.workers import WorkerHealth
from roles.worker.api import ENDPOINTS as WORKER_ENDPOINTS
from tests.e2e.processes import Finished, Role, clean_environment, orchestrator_role, pool_role, role, text_of, until

HAIKU = {"model": "haiku", "prompt": "Write a haiku about rain", "max_tokens": 40}
MODEL = Path("llorch/assets/haiku.gguf")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SETTINGS = """
color = false
continue-on-failure = true
request-timeout = 30.0
max-stream-events = 200
warnings = false

[generation]
deterministic = true
max-examples = {examples}

[phases.examples]
enabled = false

[phases.stateful]
max-steps = 3

[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503, 507]

[dictionaries.jobs]
values = [{job}]

[dictionaries.workers]
values = [{worker}]

[dictionaries.models]
values = ["haiku", "file:/builtin/haiku.gguf", "file:/nowhere.gguf"]

# A path such as /v2/pools/register is one of /v2/pools/{{id}} too, so it allows what that one allows.
[[operations]]
include-path-regex = "/(register|unregister|preload|spawn|purge|download|downloads|disk-usage)$"
checks.allow_header_conformance.enabled = false

# Pools that the generated requests have registered cannot be reached.
[[operations]]
include-path-regex = "^(/v2)?/pools/[^/]+/(workers/spawn|models/download)$"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 502, 503, 507]

# Which references and lengths a model can take is not in the document, nor is all of the dialects that is not honoured.
[[operations]]
include-path-regex = "^/v2/tasks$|/spawn$|/models/(download|(un)?register|preload)$|^/execute$|^/count$|^/v1/|^/api/"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 404, 409, 429, "5xx"]

[[operations]]
include-path-regex = "/v2/tasks|/v1/.*(completions|messages|count_tokens|responses)$|/api/(chat|generate|show)$"
parameters."path.id" = {{ dictionary = "jobs", probability = 0.5 }}
parameters."body.model" = {{ dictionary = "models", probability = 0.7 }}

[[operations]]
include-path-regex = "/v2/workers"
parameters."path.id" = {{ dictionary = "workers", probability = 0.5 }}

[[operations]]
include-path-regex = "/spawn$"
parameters."body.model_ref" = {{ dictionary = "models", probability = 0.5 }}
"""


async def schemathesis(
    described: dict[str, Any], url: str, folder: Path, *, examples: int, job: str = "none", worker: str = "none"
) -> Finished:
    """Try every operation of a document on the server at *url*."""
    for operations in described["paths"].values():
        for operation in operations.values():
            del operation["responses"]["default"]  # each status has to be listed
    (folder / "openapi.json").write_bytes(encode(described))
    settings = SETTINGS.format(examples=examples, job=json.dumps(job), worker=json.dumps(worker))
    (folder / "schemathesis.toml").write_text(settings)
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        *("--config-file", str(folder / "schemathesis.toml"), "run", str(folder / "openapi.json"), "--url", url),
        cwd=folder,
        env=clean_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), "")


async def described(client: Client) -> dict[str, Any]:
    """Return a role's document."""
    return await client.send("GET", "/openapi.json", dict[str, Any])


async def works(client: Client) -> bool:
    """Tell whether a job that is submitted now runs to its end."""
    job = await client.send("POST", "/v2/tasks", Accepted, body=HAIKU)
    events = [event async for event in client.follow(job.events_url)]
    return events[-1].kind == "end" and bool(text_of(events))


def complaints(log: Path) -> list[str]:
    """Return what a role logged that it should not have to."""
    return [line for line in log.read_text().splitlines() if "request_failed" in line or "Traceback" in line]


async def test_the_orchestrator_answers_as_its_document_says(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url):
        job = await orchestrator.submit(**HAIKU)
        await orchestrator.events(job.job_id)
        whole = await described(orchestrator.client)
        del whole["paths"]["/v2/pools/{id}/drain"]  # the one pool of the test would get no more work

        finished = await schemathesis(whole, orchestrator.url, tmp_path, examples=6, job=job.job_id)
        still_works = await works(orchestrator.client)

    assert finished.status == 0, finished.stdout
    assert still_works
    assert complaints(tmp_path / "log") == []


async def test_the_pool_answers_as_its_document_says(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url) as pool:
        job = await orchestrator.submit(**HAIKU)
        await orchestrator.events(job.job_id)
        [worker] = (await pool.workers()).workers
        whole = await described(pool.client)
        del whole["paths"]["/v2/handover"]  # it would end the test itself
        del whole["paths"]["/v2/orchestrator"]  # the pool would leave the one of the test

        finished = await schemathesis(whole, pool.url, tmp_path, examples=6, worker=worker.worker_id)
        still_works = await works(orchestrator.client)

    assert finished.status == 0, finished.stdout
    assert still_works
    assert complaints(tmp_path / "log") == []


async def test_a_worker_answers_as_it_is_described(tmp_path: Path) -> None:
    whole = json.loads(encode(document("llorch worker", WORKER_ENDPOINTS)))
    del whole["paths"]["/shutdown"]  # it would end the test itself
    async with role("worker", "--model", str(MODEL.resolve()), "--port", "0", log=tmp_path / "log") as worker:
        await until(lambda: _ready(worker))

        finished = await schemathesis(whole, worker.url, tmp_path, examples=6)
        health = await worker.client.send("GET", "/health", WorkerHealth)

    assert finished.status == 0, finished.stdout
    assert health.status == "ready"
    assert complaints(tmp_path / "log") == []


async def _ready(worker: Role) -> bool:
    return (await worker.client.send("GET", "/health", WorkerHealth)).status == "ready"
