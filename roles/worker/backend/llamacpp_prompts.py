"""What llama.cpp makes of prompts: a text by the model's chat template, tokens, and marks where pictures belong."""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.conversation import images_of
from llorch.wire.images import data_of
from roles.worker.backend import Prompt
from roles.worker.backend.llamacpp_http import Refused

T = TypeVar("T")
SENTENCEPIECE = 1
"""llama.cpp's number for vocabularies that put a space before a text; see `tokenize`."""


class _Counted(msgspec.Struct, frozen=True):
    input_tokens: int


class _Templated(msgspec.Struct, frozen=True):
    prompt: str


class _Tokens(msgspec.Struct, frozen=True):
    tokens: list[int]


class _Text(msgspec.Struct, frozen=True):
    content: str


class Asks(Protocol):
    """Whoever answers as llama.cpp's server does."""

    async def ask(self, method: str, path: str, body: object, kind: type[T]) -> T:
        """Return an answer that comes in one piece."""
        ...


class Prompts:
    """Asks one server of llama.cpp's; `bos` is what it puts before every text."""

    def __init__(self, http: Asks) -> None:
        self.bos: list[int] = []
        self._http = http
        self._vocab_type = 0

    async def open(self, vocab_type: int) -> None:
        """Learn of the vocabulary that is loaded."""
        self._vocab_type = vocab_type
        self.bos = await self.tokens("")

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Return the prompt's tokens; see `Engine.tokenize`.

        Text that looks like a special token of the model becomes one, in *text* as well as in the template's output:
        that is what llama.cpp's own server does. Not so in *continue_text*, which a model wrote.
        """
        text = await self._templated(prompt) if prompt.messages else prompt.text
        if prompt.continue_text and self._vocab_type == SENTENCEPIECE:
            # Alone it would get a space in front.
            return self._one_bos(await self.tokens(text + prompt.continue_text), prompt)
        tokens = self._one_bos(await self.tokens(text), prompt)
        if prompt.continue_text:
            tokens += await self.tokens(prompt.continue_text, special=False)
        return tokens

    async def tokens(self, text: str, *, special: bool = True) -> list[int]:
        """Return the tokens of a text; with *special* ones in it, and those that the model wants around it."""
        body = {"content": text, "add_special": special, "parse_special": special}
        return (await self._http.ask("POST", "/tokenize", body, _Tokens)).tokens

    async def measure(self, prompt: Prompt) -> int:
        """Return how many tokens a prompt with pictures is; see `Seeing.measure`."""
        try:
            found = await self._http.ask("POST", "/v1/chat/completions/input_tokens", _asked(prompt), _Counted)
        except Refused:
            problem = "the model's chat template does not accept them, or its projector a picture in them"
            raise invalid([FieldProblem("messages", problem)]) from None
        return found.input_tokens + len(await self.tokens(prompt.continue_text, special=False))

    async def seen(self, prompt: Prompt) -> dict[str, object]:
        """Return a prompt with pictures: its text, with llama.cpp's marks in their places, and they in that order."""
        text = await self._templated(prompt)
        tokens = await self.tokens(text)
        if self._one_bos(tokens, prompt) != tokens:
            written = await self._http.ask("POST", "/detokenize", {"tokens": tokens[:1]}, _Text)
            text = text.removeprefix(written.content)
        return {
            "prompt_string": text + prompt.continue_text,
            "multimodal_data": [data_of(url) for url in images_of(prompt.messages)],
        }

    async def _templated(self, prompt: Prompt) -> str:
        try:
            return (await self._http.ask("POST", "/apply-template", _asked(prompt), _Templated)).prompt
        except Refused:
            raise invalid([FieldProblem("messages", "the model's chat template does not accept them")]) from None

    def _one_bos(self, tokens: list[int], prompt: Prompt) -> list[int]:
        """Drop the second beginning-of-sequence token where a template wrote one too."""
        twice = len(self.bos) == 1 and tokens[:2] == self.bos * 2
        return tokens[1:] if prompt.messages and twice else tokens


def _asked(prompt: Prompt) -> dict[str, object]:
    body: dict[str, object] = {"messages": prompt.messages}
    return {**body, "tools": prompt.tools} if prompt.tools else body
