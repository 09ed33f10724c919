"""What goes wrong is an error of the class that users of each vendor's library catch, and says what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anthropic
import ollama
import openai
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.e2e.processes import role

TOKEN = "a-token-of-this-test"
LIMIT_BYTES = 2048
ASKED = "Write a haiku about rain"
ENV = {
    "LLORCH_API_TOKEN": TOKEN,
    "LLORCH_ORCHESTRATOR_QUEUE_CAPACITY": "0",
    "LLORCH_ORCHESTRATOR_MAX_BODY_BYTES": str(LIMIT_BYTES),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="url")
async def _url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Run an orchestrator that has no pool, no room in its queue, and a token."""
    folder = tmp_path_factory.mktemp("errors")
    arguments = ("--port", "0", "--data-dir", str(folder / "orchestrator"))
    async with role("orchestrator", *arguments, log=folder / "log", env=ENV, token=TOKEN) as system:
        yield system.url


async def test_openais_library_raises_its_own_errors(url: str) -> None:

    async def raised(
        model: str = "haiku", text: str = ASKED, key: str = TOKEN, **fields: object
    ) -> openai.APIStatusError:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as ai:
            with pytest.raises(openai.APIStatusError) as found:
                await ai.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": text}], extra_body=fields
                )
        return found.value

    errors = {
        "hot": await raised(temperature=3),
        "stranger": await raised(key="another"),
        "unknown": await raised(model="haik"),
        "long": await raised(text="x" * LIMIT_BYTES),
        "full": await raised(),
    }

    told = {name: (type(error), error.type, error.code) for name, error in errors.items()}
    assert told == {
        "hot": (openai.BadRequestError, "invalid_request_error", "INVALID_REQUEST"),
        "stranger": (openai.AuthenticationError, "authentication_error", "INVALID_TOKEN"),
        "unknown": (openai.NotFoundError, "invalid_request_error", "MODEL_NOT_FOUND"),
        "long": (openai.APIStatusError, "invalid_request_error", "BODY_TOO_LARGE"),
        "full": (openai.RateLimitError, "rate_limit_error", "QUEUE_FULL"),
    }
    assert errors["long"].status_code == 413
    assert all(error.request_id == error.response.headers["X-Correlation-Id"] for error in errors.values())
    assert int(errors["full"].response.headers["Retry-After"]) > 0


async def test_anthropics_library_raises_its_own_errors(url: str) -> None:

    async def raised(ask: Callable[[AsyncAnthropic], Awaitable[object]], key: str = TOKEN) -> anthropic.APIStatusError:
        async with AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as ai:
            with pytest.raises(anthropic.APIStatusError) as found:
                await ask(ai)
        return found.value

    def said(
        model: str = "haiku", text: str = ASKED, **fields: object
    ) -> Callable[[AsyncAnthropic], Awaitable[object]]:
        return lambda ai: ai.messages.create(
            model=model, max_tokens=9, messages=[{"role": "user", "content": text}], extra_body=fields
        )

    errors = {
        "hot": await raised(said(temperature=3)),
        "stranger": await raised(said(), key="another"),
        "unknown": await raised(said(model="haik")),
        "long": await raised(said(text="x" * LIMIT_BYTES)),
        "full": await raised(said()),
        "nobody": await raised(
            lambda ai: ai.messages.count_tokens(model="haiku", messages=[{"role": "user", "content": ASKED}])
        ),
    }

    assert {name: (type(error), error.type) for name, error in errors.items()} == {
        "hot": (anthropic.BadRequestError, "invalid_request_error"),
        "stranger": (anthropic.AuthenticationError, "authentication_error"),
        "unknown": (anthropic.NotFoundError, "not_found_error"),
        "long": (anthropic.RequestTooLargeError, "request_too_large"),
        "full": (anthropic.RateLimitError, "rate_limit_error"),
        "nobody": (anthropic.ServiceUnavailableError, "overloaded_error"),
    }
    for error in errors.values():
        assert isinstance(error.body, dict)
        assert error.request_id == error.body["request_id"] == error.response.headers["X-Correlation-Id"]
    assert int(errors["full"].response.headers["Retry-After"]) > 0


async def test_ollamas_library_raises_its_one_error_with_the_status(url: str) -> None:

    async def raised(model: str = "haiku", text: str = ASKED, key: str = TOKEN, **fields: object) -> tuple[int, str]:
        ai = ollama.AsyncClient(host=url, headers={"Authorization": f"Bearer {key}"})
        async with ai:
            with pytest.raises(ollama.ResponseError) as found:
                await ai.generate(model=model, prompt=text, options=fields)
        return found.value.status_code, found.value.error

    errors = [
        await raised(temperature=3),
        await raised(key="another"),
        await raised(model="haik"),
        await raised(text="x" * LIMIT_BYTES),
        await raised(),
    ]

    assert [status for status, _ in errors] == [400, 401, 404, 413, 429]
    assert "options.temperature" in errors[0][1]
    assert "the queue is full" in errors[-1][1]
