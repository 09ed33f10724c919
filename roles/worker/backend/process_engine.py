"""An engine that computes in a process of ours: our Protocol over that process. Imports no library of an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from importlib import metadata

import msgspec

from llorch import errors
from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.tasks import Sampling, Talk
from roles.worker.backend import Chunk, Prompt
from roles.worker.backend.engine_child import EngineChild, error_of
from roles.worker.backend.engine_messages import AskText, AskTokens, Drop, Piece, Refused, Tokens
from roles.worker.backend.llamacpp_options import top_logprobs


class ProcessEngine:
    """What all such engines have in common; each adds how its model is loaded.

    Args:
        tasks: Owns the tasks that watch the process.
        called: The name of the engine, which is also that of its package.
        instead: What to do for what it cannot.
    """

    def __init__(self, tasks: asyncio.TaskGroup, *, called: str, instead: str) -> None:
        self.name = _name(called)
        self._called = called
        self._instead = instead
        self._process = EngineChild(tasks, called)

    async def died(self) -> str:
        """Return why the process has ended; see `Engine.died`."""
        return await self._process.wait()

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Return the prompt's tokens; see `Engine.tokenize`.

        Text that looks like a special token becomes one, in *text* as well as in the template's output, but not in
        *continue_text*, which a model wrote.
        """
        if prompt.tools:
            raise self._no_tools()
        messages = [msgspec.to_builtins(message) for message in prompt.messages]
        asked_id, answers = self._process.open()
        try:
            self._process.ask(AskTokens(id=asked_id, text=prompt.text, messages=messages, behind=prompt.continue_text))
            found = await answers.get()
        finally:
            self._process.forget(asked_id)
        if isinstance(found, Refused):
            raise error_of(found)
        if not isinstance(found, Tokens):
            raise errors.EngineFailed("the engine has ended")
        return found.tokens

    async def check(self, *, grammar: str, tools: bool) -> None:
        """Refuse what this engine cannot do; see `Engine.check`."""
        if grammar:
            raise errors.InvalidRequest(
                f"the request is not valid: the engine {self._called} enforces no JSON and no call of a tool; "
                f"{self._instead} for that"
            )
        if tools:
            raise self._no_tools()

    async def generate(
        self, tokens: Sequence[int], sampling: Sampling, *, max_tokens: int, seed: int, grammar: str = ""
    ) -> AsyncGenerator[list[Chunk], None]:
        """Yield what is generated; see `Engine.generate`."""
        await self.check(grammar=grammar, tools=False)
        if not tokens:
            raise errors.InvalidRequest("the request is not valid: the prompt has no tokens")
        asked_id, answers = self._process.open()
        over = False
        try:
            self._process.ask(_asked(asked_id, tokens, sampling, max_tokens=max_tokens, seed=seed))
            while not over:
                pieces = [await answers.get()]
                while not answers.empty():
                    pieces.append(answers.get_nowait())
                chunks = [_chunk(piece) for piece in pieces if isinstance(piece, Piece)]
                over = len(chunks) < len(pieces) or chunks[-1].stop is not None
                if chunks:
                    yield chunks
                if len(chunks) < len(pieces):
                    raise errors.EngineFailed("the engine ended its answer before the text's end")
        finally:
            if over:
                self._process.forget(asked_id)
            else:
                self._process.drop(asked_id, Drop(asked_id))

    def converse(self, prompt: Prompt, talk: Talk, *, max_tokens: int, seed: int) -> AsyncGenerator[list[Chunk], None]:
        """Refuse: this engine tells neither calls of tools nor thoughts apart from text; see `Engine.converse`."""
        whole = invalid(
            [FieldProblem("reasoning_format", f"the engine {self._called} does not tell thoughts apart; leave it out")]
        )
        return _refusing(self._no_tools() if prompt.tools else whole)

    async def let_go(self) -> None:
        """Wait for slots that compute what nobody wants any more; see `Engine.let_go`."""
        await self._process.settled()

    async def close(self) -> None:
        """End the process; see `Engine.close`."""
        await self._process.close()

    def _no_tools(self) -> errors.InvalidRequest:
        return invalid([FieldProblem("tools", f"the engine {self._called} cannot call tools; {self._instead}")])


async def _refusing(*problems: errors.LlorchError) -> AsyncGenerator[list[Chunk], None]:
    """Yield nothing: the first step raises."""
    for problem in problems:
        raise problem
    yield []


def _asked(asked_id: int, tokens: Sequence[int], sampling: Sampling, *, max_tokens: int, seed: int) -> AskText:
    bias = sampling.logit_bias if isinstance(sampling.logit_bias, dict) else {}
    return AskText(
        id=asked_id,
        tokens=list(tokens),
        max_tokens=max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        logit_bias={int(token): amount for token, amount in bias.items()},
        seed=seed,
        top_logprobs=top_logprobs(sampling) if sampling.logprobs is True else -1,
    )


def _chunk(piece: Piece) -> Chunk:
    if piece.prompt:
        return Chunk(prefilled=piece.read, prefill_total=piece.prompt, cached=piece.cached)
    return Chunk(piece.text, piece.count, piece.stop, ids=piece.ids, logprobs=piece.logprobs)


def _name(package: str) -> str:
    try:
        return f"{package}/{metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package
