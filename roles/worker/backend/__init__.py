"""What an engine is to the worker: a Protocol, and what crosses it. Each engine is one module beside this file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from llorch.wire.conversation import Message, TokenLogprob, Tool, ToolCallDelta
from llorch.wire.events import StopReason
from llorch.wire.tasks import Sampling, Talk

REPLACEMENT = "\ufffd"
"""What engines put for bytes that are not UTF-8, such as one half of an emoji; it never leaves the worker."""


NO_PROJECTOR = "the model has no projector, and reads text alone"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model once it is loaded; `context_length` is one slot's, in tokens.

    `can` is what it can do, see `Capability`.
    `slots` is how many jobs it takes at a time where the engine knows that itself; 0 is as many as it was told.
    An engine that does not know its model's tokens (`takes_tokens` false) gets every job as text, through `converse`,
    tools and the form of the answer included. Where it cannot even count them (`counts_tokens` false), only the length
    of what `tokenize` returns means something, and that is an estimate.
    """

    context_length: int
    vocab_size: int
    quant_kind: str
    memory_bytes: int
    slots: int = 0
    takes_tokens: bool = True
    counts_tokens: bool = True
    can: tuple[str, ...] = ("text-gen",)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to continue: exactly one of *text* and *messages*, then *continue_text*, which an earlier attempt wrote.

    *tools* are told to the model by its chat template.
    """

    text: str = ""
    messages: Sequence[Message] = ()
    tools: Sequence[Tool] = ()
    continue_text: str = ""


class Chunk(NamedTuple):
    """One step of a generation, in whole code points.

    `tokens_out` counts all tokens up to here, `ids` are those that became whole characters, or stand for no text, in
    this step. `prefilled` and `prefill_total` are set while the prompt is still being read, and `cached` then tells how
    many of its tokens had been computed before; `stop` on the last chunk alone. `drafted` and `accepted` count the
    tokens that a draft model guessed up to here, and guessed right, where it is told. `logprobs` are those of the ids,
    where asked for and known. `reasoning_content` and `tool_calls` come apart from text. `tokens_in` counts the
    prompt's tokens, where only the end tells how many they were, and `cached` comes with it.
    """

    text: str = ""
    tokens_out: int = 0
    stop: StopReason | None = None
    prefilled: int = 0
    prefill_total: int = 0
    ids: Sequence[int] = ()
    logprobs: Sequence[TokenLogprob] = ()
    reasoning_content: str = ""
    tool_calls: Sequence[ToolCallDelta] = ()
    cached: int = 0
    drafted: int = 0
    accepted: int = 0
    tokens_in: int = 0


class Engine(Protocol):
    """One loaded model. Every method may raise `EngineFailed`."""

    name: str
    """As reported to clients: the engine and its build."""

    async def load(self, on_progress: Callable[[float], None]) -> ModelFacts:
        """Load the model, telling the percentage as it grows.

        Raises:
            ModelInvalid: The file is damaged.
            ModelIncompatible: This engine does not know the model's architecture.
            BackendUnavailable: No such device here.
        """
        ...

    async def died(self) -> str:
        """Return why the engine has ended by itself; waits for as long as it lives."""
        ...

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Return the prompt's tokens, template and special tokens included.

        Raises:
            InvalidRequest: The model's chat template refuses these messages.
        """
        ...

    async def check(self, *, grammar: str, tools: bool) -> None:
        """Make sure that the engine can do what a request asks for.

        Args:
            grammar: What it will have to follow, as `grammar.py` writes it; empty for nothing.
            tools: Whether the model's chat template has to know tools.

        Raises:
            InvalidRequest: It cannot.
        """
        ...

    def generate(
        self, tokens: Sequence[int], sampling: Sampling, *, max_tokens: int, seed: int, grammar: str = ""
    ) -> AsyncGenerator[list[Chunk], None]:
        """Yield what is generated, each time all chunks that have come; close the iterator to stop the engine.

        With a *grammar*, which has been checked, nothing else is generated than what it allows.
        """
        ...

    def converse(self, prompt: Prompt, talk: Talk, *, max_tokens: int, seed: int) -> AsyncGenerator[list[Chunk], None]:
        """Yield the next turn of a conversation, with calls of tools and thoughts apart from its text; no ids.

        An engine that takes no tokens gets every job here, prompts too.

        Raises:
            InvalidRequest: The model cannot be asked that.
            CannotContinue: The engine cannot go on behind *continue_text*.
        """
        ...

    async def let_go(self) -> None:
        """Wait until the engine works on nothing but the generations that are still wanted."""
        ...

    async def close(self) -> None:
        """End the engine and give back everything; safe to call twice."""
        ...


@runtime_checkable
class Seeing(Protocol):
    """What an engine that can be given pictures has beside all others; such prompts are never only tokens."""

    async def measure(self, prompt: Prompt) -> int:
        """Return how many tokens a prompt with pictures is, and what is to be continued behind it.

        Raises:
            InvalidRequest: The model has no projector, or its chat template or the projector refuses them.
        """
        ...

    def look(
        self, prompt: Prompt, sampling: Sampling, *, max_tokens: int, seed: int, grammar: str = ""
    ) -> AsyncGenerator[list[Chunk], None]:
        """Yield what is generated behind a prompt with pictures, as `Engine.generate` does; no ids."""
        ...


@runtime_checkable
class Embedding(Protocol):
    """What an engine has beside all others whose models make embeddings or rerank, as their `ModelFacts.can` says."""

    async def embed(self, inputs: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        """Return a vector of length 1 for each input, which are tokens that fit the context; cancel it to stop it."""
        ...

    async def pair_size(self, query: str, document: str) -> int:
        """Return how many tokens the model reads to score a document."""
        ...

    async def rank(self, query: str, documents: Sequence[str]) -> Sequence[float]:
        """Return a score for each document, which fit the context; cancel it to stop it."""
        ...
