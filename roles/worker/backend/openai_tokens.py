"""How many tokens a prompt is on a server that is not llorch's: as it tells itself, or about as many as there are."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from llorch.server_facts import Facts
from llorch.server_http import ANSWER_TIMEOUT_S, Refusal, ServerHttp
from roles.worker.backend import Prompt
from roles.worker.backend.llamacpp_prompts import Prompts
from roles.worker.backend.openai_words import estimate

T = TypeVar("T")


class _Tokens(msgspec.Struct, frozen=True):
    tokens: list[int]


class _Native:
    """llama-server's own addresses, which are not under those of OpenAI's API."""

    def __init__(self, http: ServerHttp) -> None:
        self._http = http

    async def ask(self, method: str, path: str, body: object, kind: type[T]) -> T:
        """Return an answer; raises as `ServerHttp.ask` does."""
        return await self._http.ask(method, self._http.root + path, body, kind, timeout_s=ANSWER_TIMEOUT_S)


class Counter:
    """Counts by asking the server; `exact` tells whether it can be asked.

    Args:
        http: The server.
        facts: What it is.
        model: What it calls the model.
    """

    def __init__(self, http: ServerHttp, facts: Facts, model: str) -> None:
        self.exact = False
        self._facts = facts
        self._model = model
        self._native = _Native(http)
        self._prompts = Prompts(self._native)

    async def open(self) -> None:
        """Find out whether the server can be asked; vLLM and llama-server can, unless that is turned off.

        Raises:
            Away: It does not answer.
        """
        try:
            if self._facts.family == "llama-server":
                await self._prompts.open(self._facts.vocab_type)
                self.exact = True
            elif self._facts.family == "vllm":
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
        if self._facts.family == "vllm":
            return await self._vllm(prompt)
        return await self._prompts.tokenize(prompt)

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
        return (await self._native.ask("POST", "/tokenize", body, _Tokens)).tokens
