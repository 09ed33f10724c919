"""What other APIs' requests may hold and a job may not: it is refused by its name before there is a job."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from llorch.errors import InvalidRequest
from llorch.wire.anthropic import MessagesRequest
from llorch.wire.codec import decode
from llorch.wire.ollama import EmbedRequest, OllamaChat
from llorch.wire.openai import ChatRequest
from llorch.wire.openai_embeddings import EmbeddingRequest
from llorch.wire.responses import ResponsesRequest
from roles.orchestrator.dialects import anthropic, embeddings, ollama, openai, responses

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TEXT = {"type": "text", "text": "y"}
IMAGE_URL = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
RESULT = {"type": "tool_result", "tool_use_id": "x", "content": "y"}
USE = {"type": "tool_use", "id": "i", "name": "f", "input": {}}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ITEM = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}


def messages(role: str, *content: object) -> dict[str, object]:
    return {"max_tokens": 5, "messages": [{"role": role, "content": list(content)}]}


ANTHROPIC = (MessagesRequest, partial(anthropic.task, room=None))
CHAT = (ChatRequest, partial(openai.chat_tasks, room=None))
RESPONSES = (ResponsesRequest, partial(responses.task, room=None))
EMBEDDING = (EmbeddingRequest, embeddings.embedding_task)
OLLAMA = (OllamaChat, partial(ollama.chat_task, name="m", room=None))
OLLAMA_EMBED = (EmbedRequest, partial(embeddings.embed_task, name="m"))
CASES: list[tuple[str, tuple[type[msgspec.Struct], Callable[..., object]], dict[str, object]]] = [
    ("too many texts", EMBEDDING, {"input": ["a"] * 2049}),
    ("no token", EMBEDDING, {"input": [2**31]}),
    ("an empty text", OLLAMA_EMBED, {"input": ["a", ""]}),
    ("too many images", OLLAMA, {"messages": [{"role": "user", "content": "x", "images": [PNG] * 1025}]}),
    ("a result of no call", ANTHROPIC, messages("user", {"type": "tool_result", "content": "x"})),
    ("a call without an id", ANTHROPIC, messages("assistant", {**USE, "id": ""})),
    ("a call of nothing", ANTHROPIC, messages("assistant", {**USE, "name": ""})),
    ("too many results", ANTHROPIC, messages("user", *[RESULT] * 4097)),
    ("too many calls", ANTHROPIC, messages("assistant", *[USE] * 513)),
    ("too many parts", ANTHROPIC, messages("user", IMAGE, *[TEXT] * 1025)),
    ("too many tokens", ANTHROPIC, {**messages("user", TEXT), "max_tokens": 2**40}),
    ("too many parts of a chat", CHAT, messages("user", IMAGE_URL, *[TEXT] * 1025)),
    ("too many calls of a chat", CHAT, {"messages": [{"role": "assistant", "tool_calls": [CALL] * 513}]}),
    ("too many calls in a row", RESPONSES, {"input": [ITEM] * 513}),
]


@pytest.mark.parametrize(("translation", "body"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_a_job_may_not_hold_is_refused_by_its_name(
    translation: tuple[type[msgspec.Struct], Callable[..., object]], body: dict[str, Any]
) -> None:
    kind, translate = translation

    with pytest.raises(InvalidRequest) as refused:
        translate(decode(json.dumps({"model": "m", **body}).encode(), kind))

    assert "fields" in (refused.value.details or {})
