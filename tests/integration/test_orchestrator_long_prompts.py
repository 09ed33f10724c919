"""What clients of each API are told of a prompt that does not fit, whoever finds out: admission, or a worker later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llorch.errors import InvalidRequest
from llorch.wire.codec import encode
from llorch.wire.events import Failed
from tests.support.orchestrating import COUNTED, REF, ScriptedWorker, System, both, failure
from tests.support.scripts import MODEL, Call

COUNTS = {"prompt_tokens": COUNTED, "context_length": MODEL.context_length}
Refused = tuple[int, dict[str, Any]]
REFUSAL = InvalidRequest("it does not fit", details=COUNTS)
COUNTED_TEXT = "word " * 2_000
"""So long that a worker has to count it."""
ENDLESS_TEXT = "x" * 6_000 * MODEL.max_token_bytes
"""So long that nobody has to."""


def body(path: str, text: str, **fields: object) -> dict[str, object]:
    """Return what an API takes that asks for an answer to a text."""
    talk = [{"role": "user", "content": text}]
    prompts: Mapping[str, dict[str, object]] = {
        "/v1/messages": {"messages": talk, "max_tokens": 9},
        "/v1/responses": {"input": text},
        "/v1/completions": {"prompt": text},
        "/api/generate": {"prompt": text},
    }
    return {"model": REF, **prompts.get(path, {"messages": talk}), **fields}


def words(path: str, amount: str) -> str:
    """Return the message that an API is known for."""
    if path == "/v1/messages":
        return f"prompt is too long: {amount} > 4096 maximum"
    if path.startswith("/api"):
        return (
            f"the input length exceeds the context length: the prompt is {amount} long, the context of the model is "
            "4096, and one must be left"
        )
    field = {"/v1/responses": "input", "/v1/completions": "prompt"}.get(path, "messages")
    return (
        f"This model's maximum context length is 4096 tokens. However, your {field} resulted in {amount}. "
        f"Please reduce the length of the {field}: the prompt is too long, and exceeds the context window."
    )


PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate")


async def refused(system: System, path: str, asked: object) -> Refused:
    """Return an answer's status, and the last object of it with an error in it."""
    async with aiohttp.ClientSession(system.url) as http, http.post(path, json=asked) as response:
        lines = (await response.text()).splitlines()
    objects = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith(("{", "data: {"))]
    return response.status, objects[-1]


def said(answers: Mapping[str, Refused]) -> dict[str, tuple[int, str]]:
    """Return statuses and messages; Ollama has nothing else, and a response that failed has them in itself."""
    errors = {path: told.get("response", told)["error"] for path, (_, told) in answers.items()}
    return {
        path: (answers[path][0], error if path.startswith("/api") else error["message"])
        for path, error in errors.items()
    }


async def test_a_prompt_that_is_too_long_is_refused_in_the_words_of_its_api(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker()) as system:
        counted = {path: await refused(system, path, body(path, COUNTED_TEXT, stream=True)) for path in PATHS}
        endless = {path: await refused(system, path, body(path, ENDLESS_TEXT)) for path in PATHS}

    assert said(counted) == {path: (400, words(path, "5000 tokens")) for path in PATHS}
    assert said(endless) == {path: (400, words(path, "at least 6000 tokens")) for path in PATHS}


async def telling(call: Call) -> None:
    """Begin, and find out only then."""
    await call.started()
    failed = Failed(code="INVALID_REQUEST", message="it does not fit", retriable=False, details=COUNTS)
    await call.send("error", encode(failed))


@pytest.mark.parametrize("worker", [ScriptedWorker(busy=REFUSAL), ScriptedWorker(telling)], ids=["refused", "begun"])
async def test_what_a_worker_finds_too_long_is_told_in_the_same_words_whole_and_streamed(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    async with both(tmp_path, worker) as system:
        whole = {path: await refused(system, path, body(path, "hi", stream=False)) for path in PATHS}
        streamed = {path: await refused(system, path, body(path, "hi", stream=True)) for path in PATHS}

    assert said(whole) == {path: (400, words(path, "5000 tokens")) for path in PATHS}
    assert said(streamed) == {path: (200, words(path, "5000 tokens")) for path in PATHS}


async def test_openais_errors_have_the_code_that_its_clients_look_for(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker(busy=REFUSAL)) as system:
        chat = await refused(system, PATHS[0], body(PATHS[0], "hi"))
        streamed = await refused(system, PATHS[0], body(PATHS[0], "hi", stream=True))
        _, failed = await refused(system, "/v1/responses", body("/v1/responses", "hi", stream=True))

    told = [(each["error"]["type"], each["error"]["code"], each["error"]["param"]) for _, each in (chat, streamed)]
    assert told == [("invalid_request_error", "context_length_exceeded", "messages")] * 2
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"]["code"] == "context_length_exceeded"


async def test_llorchs_own_api_tells_both_counts_whoever_found_out(tmp_path: Path) -> None:
    async with both(tmp_path, ScriptedWorker(busy=REFUSAL)) as system:
        job = await system.submit()
        live = await system.events(job.job_id)
        again = await system.events(job.job_id)

    expected = Failed(code="INVALID_REQUEST", message="it does not fit", retriable=False, details=COUNTS)
    assert [failure(live), failure(again)] == [expected] * 2
