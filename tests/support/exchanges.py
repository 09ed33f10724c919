"""Asks a running system everything that other programs' clients ask, and keeps the answers as they came."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.support.scribes import PLACE

POEM = [{"role": "user", "content": "Write a haiku about rain"}]
WEATHER = {"name": "get_weather", "description": "Tells the weather", "parameters": PLACE}
TOOLS = [{"type": "function", "function": WEATHER}]
FORM = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE, "strict": True}}
COLD = {"temperature": 0}
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Models:
    """References of models that do something else than write poems."""

    scribe: str
    """Says something and calls a function."""
    thinker: str
    embedder: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """An answer."""

    status: int
    content_type: str
    body: str


def questions(models: Models) -> dict[str, tuple[str, dict[str, Any] | None]]:
    """Return paths and bodies by name; without a body it is a GET."""
    chat = {"model": "haiku", "messages": POEM, **COLD}
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    forced = {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "get_weather"}}}
    thinking = {"model": models.thinker, "messages": POEM}
    plain = {"model": "haiku", "prompt": "Write a haiku about rain", **COLD}
    respond = {"model": "haiku", "input": "Write a haiku about rain", "store": False, **COLD}
    eager = {"reasoning": {"effort": "low"}}
    told = {"instructions": "Be brief.", "include": ["message.output_text.logprobs"]}
    function = {"tools": [{"type": "function", **WEATHER, "strict": True}], "tool_choice": "required"}
    claude = {"model": "haiku", "max_tokens": 64, "messages": POEM, **COLD}
    calling = claude | {
        "model": models.scribe,
        "tools": [{"name": "get_weather", "description": "Tells the weather", "input_schema": PLACE}],
    }
    thought = claude | {"model": models.thinker, "thinking": {"type": "adaptive"}}
    llama = {"model": "haiku", "options": COLD}
    spoken = {**llama, "messages": POEM}
    written = {**llama, "prompt": "Write a haiku about rain"}
    whole = {"stream": False}
    return {
        "openai chat": ("/v1/chat/completions", chat),
        "openai chat stream": ("/v1/chat/completions", {**chat, **streamed}),
        "openai chat several": ("/v1/chat/completions", {**chat, "n": 2}),
        "openai chat several stream": ("/v1/chat/completions", {**chat, **streamed, "n": 2}),
        "openai chat logprobs": ("/v1/chat/completions", {**chat, "logprobs": True, "top_logprobs": 2}),
        "openai chat logprobs stream": ("/v1/chat/completions", {**chat, **streamed, "logprobs": True}),
        "openai chat form": ("/v1/chat/completions", {**chat, "response_format": FORM}),
        "openai chat tool": ("/v1/chat/completions", {**chat, **forced}),
        "openai chat tool stream": ("/v1/chat/completions", {**chat, **streamed, **forced}),
        "openai chat thinking": ("/v1/chat/completions", {**thinking, "reasoning_effort": "low"}),
        "openai chat thinking stream": ("/v1/chat/completions", {**thinking, **streamed, "reasoning_effort": "low"}),
        "openai completions": ("/v1/completions", {**plain, "max_tokens": 4}),
        "openai completions logprobs": ("/v1/completions", {**plain, "logprobs": 2}),
        "openai completions stream": ("/v1/completions", {**plain, **streamed, "max_tokens": 60, "n": 2}),
        "openai responses": ("/v1/responses", {**respond, **told}),
        "openai responses stream": ("/v1/responses", {**respond, **eager, "stream": True}),
        "openai responses logprobs stream": ("/v1/responses", {**respond, **told, "stream": True}),
        "openai responses tool stream": ("/v1/responses", {**respond, **eager, **function, "stream": True}),
        "openai responses thinking": ("/v1/responses", {**respond, **eager, "model": models.thinker}),
        "openai responses thinking stream": (
            "/v1/responses",
            {**respond, **eager, "model": models.thinker, "stream": True},
        ),
        "openai responses cut stream": ("/v1/responses", {**respond, "max_output_tokens": 2, "stream": True}),
        "openai embeddings": (
            "/v1/embeddings",
            {"model": models.embedder, "input": ["a", "b"], "encoding_format": "base64"},
        ),
        "openai embeddings numbers": ("/v1/embeddings", {"model": models.embedder, "input": ["a", "b"]}),
        "openai models": ("/v1/models", None),
        "openai model": ("/v1/models/haiku", None),
        "openai error 400": ("/v1/chat/completions", {**chat, "temperature": 3}),
        "openai error 404": ("/v1/chat/completions", {**chat, "model": "haik"}),
        "anthropic messages": ("/v1/messages", claude),
        "anthropic messages stream": ("/v1/messages", {**claude, "stream": True}),
        "anthropic tool": ("/v1/messages", calling),
        "anthropic tool stream": ("/v1/messages", {**calling, "stream": True}),
        "anthropic thinking": ("/v1/messages", thought),
        "anthropic thinking stream": ("/v1/messages", {**thought, "stream": True}),
        "anthropic count": ("/v1/messages/count_tokens", {"model": "haiku", "messages": POEM}),
        "anthropic error 400": ("/v1/messages", {**claude, "temperature": 3}),
        "anthropic error 404": ("/v1/messages", {**claude, "model": "haik"}),
        "ollama chat": ("/api/chat", {**spoken, **whole}),
        "ollama chat stream": ("/api/chat", spoken),
        "ollama chat logprobs": ("/api/chat", {**spoken, **whole, "logprobs": True, "top_logprobs": 2}),
        "ollama chat tool": ("/api/chat", {**spoken, **whole, "model": models.scribe, "tools": TOOLS}),
        "ollama chat tool stream": ("/api/chat", {**spoken, "model": models.scribe, "tools": TOOLS}),
        "ollama chat thinking stream": ("/api/chat", {**spoken, "model": models.thinker, "think": True}),
        "ollama generate": ("/api/generate", {**written, **whole}),
        "ollama generate stream": ("/api/generate", {**written, "logprobs": False}),
        "ollama generate logprobs stream": ("/api/generate", {**written, "logprobs": True}),
        "ollama generate raw": ("/api/generate", {**written, **whole, "raw": True}),
        "ollama generate load": ("/api/generate", {**llama}),
        "ollama chat load": ("/api/chat", {**llama}),
        "ollama embed": ("/api/embed", {"model": models.embedder, "input": ["a", "b"]}),
        "ollama embeddings": ("/api/embeddings", {"model": models.embedder, "prompt": "a"}),
        "ollama tags": ("/api/tags", None),
        "ollama ps": ("/api/ps", None),
        "ollama show": ("/api/show", {"model": "haiku"}),
        "ollama pull stream": ("/api/pull", {"model": "haiku"}),
        "ollama version": ("/api/version", None),
        "ollama error": ("/api/chat", {**spoken, "model": "haik"}),
        "ollama generate unload": ("/api/generate", {**llama, "keep_alive": 0}),
    }


async def gather(url: str, models: Models) -> dict[str, Exchange]:
    """Ask all questions, one after the other, and have a batch carried out; return the answers by name."""
    async with aiohttp.ClientSession(url) as http:

        async def ask(path: str, body: dict[str, Any] | None) -> Exchange:
            async with http.request("GET" if body is None else "POST", path, json=body) as response:
                return Exchange(response.status, response.headers["Content-Type"], await response.text())

        found = {name: await ask(path, body) for name, (path, body) in questions(models).items()}
        return found | await _batch(http)


async def _batch(http: aiohttp.ClientSession) -> dict[str, Exchange]:
    found: dict[str, Exchange] = {}

    async def ask(name: str, method: str, path: str, **sent: Any) -> dict[str, Any]:  # noqa: ANN401 - aiohttp's own
        async with http.request(method, path, **sent) as response:
            found[name] = Exchange(response.status, response.headers["Content-Type"], await response.text())
            told: dict[str, Any] = await response.json()
            return told

    form = aiohttp.FormData({"purpose": "batch"})
    line = '{"custom_id": "%s", "method": "POST", "url": "/v1/completions", "body": {"model": "%s", "prompt": "x"}}'
    lines = "\n".join([line % ("right", "haiku"), line % ("wrong", "haik")])
    form.add_field("file", lines.encode(), filename="in.jsonl")
    file = await ask("openai file", "POST", "/v1/files", data=form)
    wanted = {"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"}
    wanted["metadata"] = {"a": "b"}
    batch = await ask("openai batch begun", "POST", "/v1/batches", json=wanted)
    async with asyncio.timeout(DEADLINE_S):
        while (await ask("openai batch", "GET", f"/v1/batches/{batch['id']}"))["status"] != "completed":
            await asyncio.sleep(0.05)
    await ask("openai files", "GET", "/v1/files")
    await ask("openai batches", "GET", "/v1/batches")
    await ask("openai file deleted", "DELETE", f"/v1/files/{file['id']}")
    return found
