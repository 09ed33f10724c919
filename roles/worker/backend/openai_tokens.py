"""How many tokens a prompt is on a server that is not llorch's: as it tells itself, or about as many as there are."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from llorch.server_facts import Family
from llorch.server_http import ANSWER_TIMEOUT_S, Refusal, ServerHttp
from roles.worker.backend import Prompt
from roles.worker.backend.openai_words import estimate

T = TypeVar("T")


class _Tokens(msgspec.Struct, frozen=True):
    tokens: list[int]


class _Templated(msgspec.Struct, frozen=True):
    prompt: str


class Counter:
    """Counts by asking the server; `exact` tells whether it can be asked.

    Args:
        http: The server.
        family: What it is.
        model: What it calls the model.
    """

    def __init__(self, http: ServerHttp, family: Family, model: str) -> None:
        self.exact = False
        self._http = http
        self._family = family
        self._model = model
        self._bos: list[int] = []

    async def open(self) -> None:
        """Find out whether the server can be asked; vLLM and llama-server can, unless that is turned off.

        Raises:
            Away: It does not answer.
        """
        try:
            if self._family == "llama-server":
                self._bos = await self._llama("")
                self.exact = True
            elif self._family == "vllm":
                await self._vllm(Prompt(text="a"))
                self.exact = True
        except Refusal:
            self.exact = False

    async def tokens(self, prompt: Prompt) -> list[int]:
        """Return the prompt's tokens; where they cannot be known, a list about as long.

        Raises:
            Refusal: The server does not accept the prompt.
            Away: It does not answer.
        """
        if not self.exact:
            return [0] * estimate(prompt)
        if self._family == "vllm":
            return await self._vllm(prompt)
        behind = await self._llama(prompt.continue_text, special=False) if prompt.continue_text else []
        if not prompt.messages:
            return await self._llama(prompt.text) + behind
        body: dict[str, object] = {"messages": prompt.messages}
        if prompt.tools:
            body["tools"] = prompt.tools
        tokens = await self._llama((await self._ask("/apply-template", body, _Templated)).prompt)
        if len(self._bos) == 1 and tokens[:2] == self._bos * 2:
            tokens = tokens[1:]  # the template writes one too
        return tokens + behind

    async def _vllm(self, prompt: Prompt) -> list[int]:
        body: dict[str, object] = {"model": self._model}
        if prompt.messages:
            messages: list[object] = list(prompt.messages)
            if prompt.continue_text:
                messages.append({"role": "assistant", "content": prompt.continue_text})
                body |= {"continue_final_message": True, "add_generation_prompt": False}
            body["messages"] = messages
            if prompt.tools:
                body["tools"] = prompt.tools
        else:
            body["prompt"] = prompt.text + prompt.continue_text
        return (await self._ask("/tokenize", body, _Tokens)).tokens

    async def _llama(self, text: str, *, special: bool = True) -> list[int]:
        body = {"content": text, "add_special": special, "parse_special": special}
        return (await self._ask("/tokenize", body, _Tokens)).tokens

    async def _ask(self, path: str, body: object, kind: type[T]) -> T:
        return await self._http.ask("POST", self._http.root + path, body, kind, timeout_s=ANSWER_TIMEOUT_S)
