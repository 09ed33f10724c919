"""The torch engine: our Protocol over the process that computes in `torch_host`. Imports no torch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from importlib import metadata
from pathlib import Path

import msgspec

from llorch import errors
from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.pools import Backend
from llorch.wire.tasks import Sampling, Talk
from roles.worker.backend import Chunk, ModelFacts, Prompt
from roles.worker.backend.llamacpp_options import device_index, top_logprobs
from roles.worker.backend.torch_config import DTYPE_NAMES
from roles.worker.backend.torch_messages import AskText, AskTokens, Drop, HostOptions, Piece, Refused, Tokens
from roles.worker.backend.torch_process import TorchProcess, error_of

DEFAULT_CTX = 8192


class Torch:
    """One checkpoint in Hugging Face's layout, in one engine process.

    Args:
        tasks: Owns the tasks that watch the process.
        model_path: The checkpoint's folder, or a file in it.
        backend: What to compute on.
        device: Which one, such as `cuda:1`.
        dtype: What to compute in: bfloat16, float16, float32.
        slots: Jobs at a time.
        ctx: Context of one slot in tokens; 0 takes the model's own, up to 8192.
        threads: 0 takes one a core.
        batch: Tokens of a prompt that are read at once; a cancel waits for at most one such piece.
    """

    def __init__(  # noqa: PLR0913 - the options of an engine
        self,
        tasks: asyncio.TaskGroup,
        model_path: Path,
        *,
        backend: Backend = "cpu",
        device: str = "",
        dtype: str = "bfloat16",
        slots: int = 1,
        ctx: int = 0,
        threads: int = 0,
        batch: int = 128,
    ) -> None:
        self.name = _name()
        self._path = model_path.absolute()
        self._dtype = dtype
        self._slots = slots
        self._options = HostOptions(
            folder="",
            backend=backend,
            device_index=device_index(device),
            dtype=dtype,
            slots=slots,
            ctx=ctx,
            max_ctx=DEFAULT_CTX,
            threads=threads,
            batch=batch,
        )
        self._process = TorchProcess(tasks)

    async def load(self, on_progress: Callable[[float], None]) -> ModelFacts:
        """Load the model; see `Engine.load`."""
        folder = await asyncio.to_thread(_folder, self._path)
        told = msgspec.structs.replace(self._options, folder=str(folder))
        loaded = await self._process.load(told, on_progress)
        on_progress(100)
        return ModelFacts(
            context_length=loaded.context_length,
            vocab_size=loaded.vocab_size,
            quant_kind=DTYPE_NAMES[self._dtype],
            memory_bytes=loaded.memory_bytes,
        )

    async def died(self) -> str:
        """Return why the process has ended; see `Engine.died`."""
        return await self._process.wait()

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Return the prompt's tokens; see `Engine.tokenize`.

        Text that looks like a special token becomes one, in *text* as well as in the template's output, but not in
        *continue_text*, which a model wrote.
        """
        if prompt.tools:
            raise _no_tools()
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
                "the request is not valid: the engine torch enforces no JSON and no call of a tool; take the model in "
                "GGUF form for that"
            )
        if tools:
            raise _no_tools()

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
            [FieldProblem("reasoning_format", "the engine torch does not tell thoughts apart; leave it out")]
        )
        return _refusing(_no_tools() if prompt.tools else whole)

    async def let_go(self) -> None:
        """Wait for slots that compute what nobody wants any more; see `Engine.let_go`."""
        await self._process.settled()

    async def close(self) -> None:
        """End the process; see `Engine.close`."""
        await self._process.close()


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


def _folder(path: Path) -> Path:
    """Return the checkpoint's folder.

    Raises:
        ModelNotFound: There is nothing.
        ModelInvalid: It is a file in another form.
    """
    if path.is_dir():
        return path
    if not path.exists():
        raise errors.ModelNotFound(f"there is no model at {path}")
    if path.suffix not in {".safetensors", ".json"}:
        raise errors.ModelInvalid(f"{path.name} is no model in safetensors form; give the folder of one")
    return path.parent


def _no_tools() -> errors.InvalidRequest:
    return invalid([FieldProblem("tools", "the engine torch cannot call tools; take the model in GGUF form")])


def _name() -> str:
    try:
        return f"torch/{metadata.version('torch')}"
    except metadata.PackageNotFoundError:
        return "torch"
