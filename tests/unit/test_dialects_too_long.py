"""What a prompt that is too long is called in each API."""

from __future__ import annotations

import pytest

from llorch.errors import InvalidRequest, LlorchError, QueueFull
from roles.orchestrator.dialects.anthropic_replies import error_reply as anthropic_reply
from roles.orchestrator.dialects.openai_replies import error_reply as openai_reply
from roles.orchestrator.dialects.too_long import (
    Excess,
    PromptField,
    anthropic_words,
    excess,
    ollama_words,
    openai_words,
)
from roles.orchestrator.queue.admission import too_long

LONG = too_long(513, 512, exact=True)
ESTIMATED = too_long(600, 512, exact=False)
FULL = too_long(512, 512, exact=True)


def test_both_counts_are_read_from_an_error_that_has_them() -> None:
    workers = InvalidRequest("no room", details={"prompt_tokens": 513, "context_length": 512})

    assert excess(workers) == excess(LONG) == Excess(513, 512, exact=True)
    assert excess(ESTIMATED) == Excess(600, 512, exact=False)


@pytest.mark.parametrize(
    "error",
    [
        QueueFull("full", details={"waiting": 3, "capacity": 3}),
        InvalidRequest("no"),
        InvalidRequest("no", details={"prompt_tokens": 513}),
        InvalidRequest("no", details={"prompt_tokens": "513", "context_length": 512}),
    ],
)
def test_any_other_error_keeps_its_words(error: LlorchError) -> None:
    assert excess(error) is None
    assert (anthropic_words(error), ollama_words(error)) == (error.message, error.message)
    assert openai_reply(error, "c").error.code == error.code


@pytest.mark.parametrize(
    ("error", "openai", "anthropic", "ollama"),
    [
        (LONG, "513 tokens.", "513 tokens > 512 maximum", "513 tokens long"),
        (ESTIMATED, "at least 600 tokens.", "at least 600 tokens > 512 maximum", "at least 600 tokens long"),
        (FULL, "512 tokens, and one must be left for the answer.", "512 tokens > 511 maximum", "512 tokens long"),
    ],
    ids=["counted", "estimated", "exactly full"],
)
def test_each_api_has_words_of_its_own(error: LlorchError, openai: str, anthropic: str, ollama: str) -> None:
    found = excess(error)

    assert found is not None
    assert openai_words(found, "messages") == (
        "This model's maximum context length is 512 tokens. However, your messages resulted in "
        f"{openai} Please reduce the length of the messages: the prompt is too long, and exceeds the context window."
    )
    assert anthropic_words(error) == f"prompt is too long: {anthropic}"
    assert ollama_words(error) == (
        f"the input length exceeds the context length: the prompt is {ollama}, the context of the model is 512, "
        "and one must be left"
    )


@pytest.mark.parametrize("asked", ["messages", "prompt", "input"])
def test_openais_error_names_the_field_and_has_the_code_that_clients_look_for(asked: PromptField) -> None:
    told = openai_reply(LONG, "c", asked=asked).error

    assert (told.code, told.type, told.param) == ("context_length_exceeded", "invalid_request_error", asked)
    assert f"your {asked} resulted in 513 tokens. Please reduce the length of the {asked}: " in told.message


def test_anthropics_error_is_one_of_the_request() -> None:
    told = anthropic_reply(LONG, "c").error

    assert (told.type, told.message) == ("invalid_request_error", "prompt is too long: 513 tokens > 512 maximum")
