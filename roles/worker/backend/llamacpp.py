"""The llama.cpp engine: our Protocol over the HTTP API of the server inside the engine process.

Strategy: one connection a request, because a kept-alive one fails now and then; closing it stops the engine between
two batches or tokens. The token path decodes each chunk once, into a type that has only the fields it needs.

A token that leaves a character unfinished comes without a chunk of its own; the next chunk counts it, and `pieces`
tells which it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

from llorch import errors
from llorch.wire.codec import FieldProblem, encode, invalid
from llorch.wire.events import StopReason
from llorch.wire.pools import Backend
from llorch.wire.tasks import Message, Sampling
from roles.worker.backend import REPLACEMENT, Chunk, ModelFacts, Prompt
from roles.worker.backend.llamacpp_options import completion, device_index, quant_kind
from roles.worker.backend.llamacpp_process import EngineProcess, HostOptions
from roles.worker.backend.model_file import read_header, read_vocabulary
from roles.worker.backend.pieces import Pieces, find_pieces

T = TypeVar("T")
URL = "http://engine"
DEFAULT_CTX = 8192
POLL_S = 0.005
SENTENCEPIECE = 1
"""llama.cpp's number for vocabularies that put a space before a text; see `tokenize`."""
STOP_REASONS: dict[str, StopReason] = {"eos": "eos", "limit": "max_tokens", "none": "max_tokens"}


class _Progress(msgspec.Struct, frozen=True):
    total: int
    processed: int


class _Line(msgspec.Struct, frozen=True):
    content: str = ""
    tokens: list[int] = []
    tokens_predicted: int = 0
    stop: bool = False
    stop_type: str = "none"
    prompt_progress: _Progress | None = None
    error: msgspec.Raw | None = None


class _Slot(msgspec.Struct, frozen=True):
    is_processing: bool


class _Templated(msgspec.Struct, frozen=True):
    prompt: str


class _Tokens(msgspec.Struct, frozen=True):
    tokens: list[int]


class LlamaCpp:
    """One GGUF model in one engine process.

    Args:
        tasks: Owns the tasks that watch the process.
        model_path: The GGUF file.
        backend: What to compute on.
        device: Which one, such as `cuda:1`.
        split: Lays the model over several devices: how many parts of it by their numbers.
        slots: Jobs at a time.
        ctx: Context of one slot in tokens; 0 takes the model's own, up to 8192.
        threads: 0 takes one a core.
        batch: Tokens computed at once; a cancel waits for at most one batch.
    """

    def __init__(  # noqa: PLR0913 - the options of an engine
        self,
        tasks: asyncio.TaskGroup,
        model_path: Path,
        *,
        backend: Backend = "cpu",
        device: str = "",
        split: Mapping[int, int] | None = None,
        slots: int = 1,
        ctx: int = 0,
        threads: int = 0,
        batch: int = 128,
    ) -> None:
        self.name = _name()
        self._path = model_path.absolute()
        self._backend = backend
        self._device_index = device_index(device)
        self._split = dict(split or {})
        self._slots = slots
        self._ctx = ctx
        self._threads = threads
        self._batch = batch
        self._process = EngineProcess(tasks)
        self._session: aiohttp.ClientSession | None = None
        self._vocab_type = 0
        self._pieces = Pieces({})
        self._working = 0
        self._bos: list[int] = []
        self._decoder = msgspec.json.Decoder(_Line)

    async def load(self, on_progress: Callable[[float], None]) -> ModelFacts:
        """Load the model; see `Engine.load`."""
        header = await asyncio.to_thread(read_header, self._path)
        ctx = self._ctx or DEFAULT_CTX
        if header.context_length:
            ctx = min(ctx, header.context_length)
        reading = asyncio.get_running_loop().run_in_executor(None, _pieces, self._path)
        loaded = await self._process.load(
            HostOptions(
                model_path=str(self._path),
                backend=self._backend,
                device_index=self._device_index,
                split=self._split,
                slots=self._slots,
                ctx=ctx,
                threads=self._threads,
                batch=self._batch,
            ),
            on_progress,
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(self._process.socket, force_close=True, limit=0),
            headers={"Authorization": f"Bearer {self._process.key}", "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=None),
        )
        self._vocab_type = loaded.vocab_type
        self._pieces = await reading
        self._bos = await self._tokens("")
        return ModelFacts(
            context_length=min(ctx, loaded.n_ctx),
            vocab_size=loaded.n_vocab,
            quant_kind=quant_kind(loaded.ftype),
            memory_bytes=self._process.memory_bytes(),
        )

    async def died(self) -> str:
        """Return why the process has ended; see `Engine.died`."""
        return await self._process.wait()

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Return the prompt's tokens; see `Engine.tokenize`.

        Text that looks like a special token of the model becomes one, in *text* as well as in the template's output:
        that is what llama.cpp's own server does. Not so in *continue_text*, which a model wrote.
        """
        text = await self._templated(prompt.messages) if prompt.messages else prompt.text
        if prompt.continue_text and self._vocab_type == SENTENCEPIECE:
            # Alone it would get a space in front.
            return self._one_bos(await self._tokens(text + prompt.continue_text), prompt)
        tokens = self._one_bos(await self._tokens(text), prompt)
        if prompt.continue_text:
            tokens += await self._tokens(prompt.continue_text, special=False)
        return tokens

    async def generate(
        self, tokens: Sequence[int], sampling: Sampling, *, max_tokens: int, seed: int
    ) -> AsyncGenerator[list[Chunk], None]:
        """Yield what is generated; see `Engine.generate`.

        With one slot nothing computed for an earlier prompt is reused, so that the same request gives the same text.
        """
        body = completion(tokens, sampling, max_tokens=max_tokens, seed=seed, reuse_prompt=self._slots > 1)
        rest, count, began = b"", 0, 0
        with _translated():
            response = await self._open("POST", "/completion", body)
            try:
                while data := await response.content.readany():
                    self._working += 1 - began
                    began = 1
                    lines = (rest + data).split(b"\n\n")
                    rest = lines.pop()
                    chunks = [self._chunk(line) for line in lines if line.startswith((b"data: {", b"error: "))]
                    for index, chunk in enumerate(chunks):
                        if chunk.ids and chunk.tokens_out > count + 1:
                            chunks[index] = await self._whole(chunk, chunk.tokens_out - count - 1)
                        count = chunk.tokens_out
                    if chunks:
                        yield chunks
                        if chunks[-1].stop is not None:
                            return
            finally:
                self._working -= began
                response.close()
        raise errors.EngineFailed("the engine ended its answer before the text's end")

    async def let_go(self) -> None:
        """Wait for a slot that works without a reader; see `Engine.let_go`.

        llama.cpp answers between two batches, and only a request that has a slot has sent anything.
        """
        while True:
            slots = await self._ask("GET", "/slots", None, list[_Slot])
            if sum(slot.is_processing for slot in slots) <= self._working:
                return
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        """End the process; see `Engine.close`."""
        if self._session is not None:
            await self._session.close()
        await self._process.close()

    def _chunk(self, line: bytes) -> Chunk:
        said = self._decoder.decode(line[line.index(b"{") :])
        if said.stop:
            return Chunk(said.content, said.tokens_predicted, STOP_REASONS.get(said.stop_type, "eos"))
        if said.prompt_progress is not None:
            return Chunk(prefilled=said.prompt_progress.processed, prefill_total=said.prompt_progress.total)
        if said.error is not None or line.startswith(b"error"):
            raise errors.EngineFailed("the engine reported an error while it generated")
        return Chunk(said.content, said.tokens_predicted, ids=said.tokens)

    async def _whole(self, chunk: Chunk, unsaid: int) -> Chunk:
        """Add the *unsaid* tokens that came before the one a chunk names.

        Where they cannot be found, because a token was half a character that never was finished, or the vocabulary's
        form is not known, the chunk gets the tokens that the engine itself would make of its text: the text is the
        same, its number of tokens need not be.
        """
        (last,) = chunk.ids
        before = self._pieces.unsaid(chunk.text, unsaid, last)
        if before is not None:
            return chunk._replace(ids=[*before, last])
        return chunk._replace(ids=await self._tokens(chunk.text.replace(REPLACEMENT, ""), special=False))

    async def _templated(self, messages: Sequence[Message]) -> str:
        try:
            return (await self._ask("POST", "/apply-template", {"messages": messages}, _Templated)).prompt
        except _Refused:
            raise invalid([FieldProblem("messages", "the model's chat template does not accept them")]) from None

    async def _tokens(self, text: str, *, special: bool = True) -> list[int]:
        body = {"content": text, "add_special": special, "parse_special": special}
        return (await self._ask("POST", "/tokenize", body, _Tokens)).tokens

    def _one_bos(self, tokens: list[int], prompt: Prompt) -> list[int]:
        """Drop the second beginning-of-sequence token where a template wrote one too."""
        twice = len(self._bos) == 1 and tokens[:2] == self._bos * 2
        return tokens[1:] if prompt.messages and twice else tokens

    async def _ask(self, method: str, path: str, body: object, kind: type[T]) -> T:
        with _translated():
            response = await self._open(method, path, body)
            try:
                return msgspec.json.decode(await response.read(), type=kind)
            finally:
                response.close()

    async def _open(self, method: str, path: str, body: object) -> aiohttp.ClientResponse:
        if self._session is None or self._session.closed:
            raise errors.EngineFailed("the engine is not loaded")
        response = await self._session.request(method, URL + path, data=None if body is None else encode(body))
        if response.status != 200:
            response.close()
            raise _Refused(f"the engine refused the request with status {response.status}")
        return response


class _Refused(errors.EngineFailed):
    """The engine answered with an error; its text can quote the request, so it goes nowhere."""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        raise errors.EngineFailed("the engine process does not answer any more") from error


def _pieces(path: Path) -> Pieces:
    """Read which tokens are parts of characters; none where the file is not sound: the engine says more about that."""
    try:
        vocabulary = read_vocabulary(path)
    except errors.LlorchError:
        return Pieces({})
    return find_pieces(vocabulary.kind, vocabulary.names, vocabulary.types)


def _name() -> str:
    try:
        return f"llamacpp/{metadata.version('xllamacpp')}"
    except metadata.PackageNotFoundError:
        return "llamacpp"
