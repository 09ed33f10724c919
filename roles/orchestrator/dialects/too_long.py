"""A prompt that its model's context cannot hold, in the words by which programs know it in each API. Pure.

Agents shorten their conversation, and gateways ask another model, where they find these words; they look for parts of
them. Sources: OpenAI's and Anthropic's own errors, Ollama's `server/routes.go`, and what LiteLLM (`ExceptionCheckers`)
and LangChain (`_handle_openai_bad_request`, `_handle_openai_api_error`) look for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llorch.errors import LlorchError

OPENAI_CODE = "context_length_exceeded"
PromptField = Literal["messages", "prompt", "input"]
"""The field of a request that holds the prompt."""


@dataclass(frozen=True, slots=True)
class Excess:
    """How long the prompt is, at least where that is not `exact`, and the context that must hold it and one token."""

    tokens: int
    context: int
    exact: bool

    @property
    def amount(self) -> str:
        """The length in words."""
        return f"{'' if self.exact else 'at least '}{self.tokens} tokens"


def excess(error: LlorchError) -> Excess | None:
    """Return what an error says of a prompt that is too long; None where it says something else."""
    details = error.details or {}
    tokens, context = details.get("prompt_tokens"), details.get("context_length")
    if not isinstance(tokens, int) or not isinstance(context, int):
        return None
    return Excess(tokens, context, exact=details.get("exact") is not False)


def openai_words(found: Excess, asked: PromptField) -> str:
    """Return OpenAI's message, and behind it what those look for who do not look at the code."""
    room = "" if found.tokens > found.context else ", and one must be left for the answer"
    return (
        f"This model's maximum context length is {found.context} tokens. However, your {asked} resulted in "
        f"{found.amount}{room}. Please reduce the length of the {asked}: the prompt is too long, and exceeds the "
        "context window."
    )


def anthropic_words(error: LlorchError) -> str:
    """Return an error's message, which is Anthropic's for a prompt that is too long.

    The maximum that it names is the context, or what a prompt of just that length may have of it.
    """
    if (found := excess(error)) is None:
        return error.message
    return f"prompt is too long: {found.amount} > {min(found.context, found.tokens - 1)} maximum"


def ollama_words(error: LlorchError) -> str:
    """Return an error's message, which is Ollama's for a prompt that is too long and must not be cut."""
    if (found := excess(error)) is None:
        return error.message
    return (
        f"the input length exceeds the context length: the prompt is {found.amount} long, the context of the model is "
        f"{found.context}, and one must be left"
    )
