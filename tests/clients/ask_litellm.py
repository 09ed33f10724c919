"""Asks a running llorch with LiteLLM's library, in an environment of its own; prints what it got as one JSON object."""

from __future__ import annotations

import json
import os
import sys

import litellm
from litellm.litellm_core_utils.exception_mapping_utils import ExceptionCheckers

url, model, scribe = sys.argv[1:]
messages = [{"role": "user", "content": "Write a haiku about rain"}]
schema = json.loads(os.environ["SCHEMA"])
tools = [{"type": "function", "function": {"name": "get_weather", "parameters": schema}}]
long = [{"role": "user", "content": "x " * 700}]
form = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": schema}}
where = {"api_base": f"{url}/v1", "api_key": os.environ["LLORCH_API_TOKEN"], "num_retries": 0, "max_retries": 0}


def ask(name: str, **fields: object) -> litellm.ModelResponse:
    """Ask a model, which LiteLLM reaches by OpenAI's API."""
    return litellm.completion(**{"model": f"openai/{name}", "messages": messages, **where, **fields})


def refused(name: str, **fields: object) -> list[object] | None:
    """Return which error LiteLLM makes of a refusal."""
    try:
        list(ask(name, **fields))
    except (litellm.AuthenticationError, litellm.BadRequestError, litellm.NotFoundError) as error:
        return [type(error).__name__, error.status_code]
    return None


def fits_not(name: str, **fields: object) -> list[object]:
    """Return which error LiteLLM makes of a prompt that is too long, and whether it would know it by its words."""
    try:
        list(ask(name, **{"messages": long, **fields}))
    except litellm.BadRequestError as error:
        known = ExceptionCheckers.is_error_str_context_window_exceeded(error.message.rpartition(" - ")[2])
        return [type(error).__name__, error.status_code, known]
    return []


anthropic = {"model": f"anthropic/{model}", "api_base": url, "max_tokens": 9}
unloaded = fits_not(model, stream=True)
whole = ask(model, temperature=0)
chunks = list(ask(model, temperature=0, stream=True, stream_options={"include_usage": True}))
pieces = list(ask(scribe, tools=tools, stream=True))
called = litellm.stream_chunk_builder(pieces, messages=messages)
print(
    json.dumps(
        {
            "whole": whole.choices[0].message.content,
            "usage": whole.usage.total_tokens,
            "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
            "streamed_usage": [chunk.usage.total_tokens for chunk in chunks if getattr(chunk, "usage", None)],
            "calls": [
                [call.function.name, json.loads(call.function.arguments)]
                for call in called.choices[0].message.tool_calls
            ],
            "form": json.loads(ask(model, response_format=form).choices[0].message.content),
            "unknown": refused("haik"),
            "hot": refused(model, temperature=3),
            "long": [unloaded, fits_not(model), fits_not(model, stream=True), fits_not(model, **anthropic)],
            "stranger": refused(model, api_key="wrong"),
        }
    )
)
