"""The llama.cpp engine: our Protocol over the HTTP API of the server inside the engine process.

Strategy: the token path decodes each chunk once, into a type that has only the fields it needs.

A token that leaves a character unfinished comes without a chunk of its own; the next chunk counts it, and `pieces`
tells which it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from importlib import metadata
from pathlib import Path

import msgspec

from llorch import errors
from llorch.abilities import RANK, abilities, able, batch_of, check_pooling, pooled, pooling_of
from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.conversation import image_problems
from llorch.wire.engine_options import PLAIN, EngineOptions, files, renamed, scaled
from llorch.wire.pools import Backend
from llorch.wire.tasks import Sampling, Talk
from roles.worker.backend import NO_PROJECTOR, REPLACEMENT, Chunk, ModelFacts, Prompt
from roles.worker.backend.gpus import sight
from roles.worker.backend.grammar import SIGN, probe
from roles.worker.backend.llamacpp_chat import ChatReader, Properties, chat
from roles.worker.backend.llamacpp_embedding import PROBE, overhead, scores, vectors
from roles.worker.backend.llamacpp_http import EngineHttp, Refused
from roles.worker.backend.llamacpp_lines import LineReader
from roles.worker.backend.llamacpp_options import (
    DRAFTS,
    completion,
    device_index,
    probing,
    quant_kind,
    top_logprobs,
)
from roles.worker.backend.llamacpp_process import EngineProcess, HostOptions
from roles.worker.backend.llamacpp_prompts import Prompts
from roles.worker.backend.llamacpp_snapshots import Snapshots, mark
from roles.worker.backend.model_file import read_header, read_vocabulary
from roles.worker.backend.pieces import Pieces, find_pieces

DEFAULT_CTX = 8192
POLL_S = 0.005
LET_GO_S = 2.0
MAX_GRAMMARS = 256


class _Slot(msgspec.Struct, frozen=True):
    is_processing: bool


class _Probed(msgspec.Struct, frozen=True):
    content: str = ""


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
        launched: An engine process that waits for its options already; see `llamacpp_launch`.
        snapshots: Where to keep what slots hold at the end; with one slot, which never uses it, nothing is kept.
        snapshot_bytes: What there is room for.
        options: How it runs the model; files are paths.
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
        launched: subprocess.Popen[bytes] | None = None,
        snapshots: str = "",
        snapshot_bytes: int = 0,
        options: EngineOptions = PLAIN,
    ) -> None:
        self.name = _name()
        self._path = model_path.absolute()
        self._backend = backend
        self._device = device
        self._split = dict(split or {})
        self._slots = slots
        self._ctx = ctx
        self._threads = threads
        self._batch = batch
        self._snapshot_folder = snapshots if slots > 1 else ""
        self._snapshot_bytes = snapshot_bytes
        self._snapshots: Snapshots | None = None
        self._options = renamed(options, lambda path: str(Path(path).absolute()))
        self._process = EngineProcess(tasks, launched)
        self._http = EngineHttp()
        self._prompts = Prompts(self._http)
        self._pieces = Pieces({})
        self._sound_grammars: set[str] = set()
        self._around_pair = 0

    async def load(self, on_progress: Callable[[float], None]) -> ModelFacts:
        """Load the model; see `Engine.load`."""
        header = await asyncio.to_thread(read_header, self._path)
        for path in files(self._options):
            await asyncio.to_thread(read_header, Path(path))
        ctx = self._ctx or DEFAULT_CTX
        if header.context_length:
            ctx = min(ctx, header.context_length)
        own = pooling_of(header.architecture, header.pooling)
        check_pooling(own, self._options)
        pooling = pooled(own, self._options)
        if pooling:
            self._snapshot_folder = ""  # what it holds of one text is of no use for another
        first = device_index(self._device)
        seen = await asyncio.to_thread(sight, self._backend, sorted(self._split) or ([first] if self._device else []))
        reading = asyncio.get_running_loop().run_in_executor(None, _pieces, self._path)
        options = HostOptions(
            model_path=str(self._path),
            backend=self._backend,
            device_index=seen.number(first),
            split={seen.number(index): parts for index, parts in self._split.items()},
            environment=seen.environment,
            slots=self._slots,
            ctx=ctx,
            threads=self._threads,
            batch=batch_of(pooling, ctx=ctx, batch=self._batch),
            kv_type=self._options.kv_type,
            lora=tuple(map(scaled, self._options.lora)),
            draft=self._options.draft,
            projector=self._options.projector,
            snapshots=self._snapshot_folder,
            pooling=pooling,
        )
        loaded = await self._process.load(options, on_progress)
        self._http.open(self._process.socket, self._process.key)
        await self._restore(options)
        self._pieces = await reading
        await self._prompts.open(loaded.vocab_type)
        if pooling == RANK:
            self._around_pair = await overhead(self._http, len(await self._prompts.tokens(PROBE, special=False)))
        return ModelFacts(
            context_length=min(ctx, loaded.n_ctx),
            vocab_size=loaded.n_vocab,
            quant_kind=quant_kind(loaded.ftype),
            memory_bytes=self._process.memory_bytes(),
            can=able(abilities(own), self._options),
        )

    async def died(self) -> str:
        """Return why the process has ended; see `Engine.died`."""
        return await self._process.wait()

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Return the prompt's tokens; see `Engine.tokenize`."""
        return await self._prompts.tokenize(prompt)

    async def measure(self, prompt: Prompt) -> int:
        """Return how many tokens a prompt with pictures is; see `Seeing.measure`."""
        if not self._options.projector:
            raise invalid(image_problems(prompt.messages, NO_PROJECTOR))
        return await self._prompts.measure(prompt)

    async def check(self, *, grammar: str, tools: bool) -> None:
        """Make sure that llama.cpp can do that; see `Engine.check`.

        It is asked once for each grammar: that costs a token and, for a large schema, a good part of a second.
        """
        if tools and not (await self._http.ask("GET", "/props", None, Properties)).chat_template_caps.supports_tools:
            raise invalid([FieldProblem("tools", "the model's chat template knows no tools; require a call, or none")])
        if not grammar or grammar in self._sound_grammars:
            return
        start = self._prompts.bos or await self._prompts.tokens("a")
        try:
            found = await self._http.ask("POST", "/completion", probing(start[:1], probe(grammar)), _Probed)
        except Refused:
            found = _Probed()
        if not found.content.startswith(SIGN):
            raise errors.InvalidRequest(
                "the request is not valid: the engine cannot enforce its JSON schema, or one of its tools'"
            )
        if len(self._sound_grammars) >= MAX_GRAMMARS:
            self._sound_grammars.clear()
        self._sound_grammars.add(grammar)

    async def generate(
        self, tokens: Sequence[int], sampling: Sampling, *, max_tokens: int, seed: int, grammar: str = ""
    ) -> AsyncGenerator[list[Chunk], None]:
        """Yield what is generated; see `Engine.generate`.

        With one slot nothing computed for an earlier prompt is reused, so that the same request gives the same text.
        """
        async for chunks in self._completed(tokens, sampling, max_tokens=max_tokens, seed=seed, grammar=grammar):
            yield chunks

    async def look(
        self, prompt: Prompt, sampling: Sampling, *, max_tokens: int, seed: int, grammar: str = ""
    ) -> AsyncGenerator[list[Chunk], None]:
        """Yield what is generated behind a prompt with pictures; see `Seeing.look`.

        Without ids: llama.cpp takes tokens or pictures, so that whoever goes on has to go on behind the text.
        """
        seen = await self._prompts.seen(prompt)
        async for chunks in self._completed(seen, sampling, max_tokens=max_tokens, seed=seed, grammar=grammar):
            yield [chunk._replace(ids=()) for chunk in chunks]

    async def _completed(
        self,
        prompt: Sequence[int] | Mapping[str, object],
        sampling: Sampling,
        *,
        max_tokens: int,
        seed: int,
        grammar: str,
    ) -> AsyncGenerator[list[Chunk], None]:
        reuse, reader = self._slots > 1, LineReader(top_logprobs(sampling))
        body = completion(prompt, sampling, max_tokens=max_tokens, seed=seed, reuse_prompt=reuse, grammar=grammar)
        if self._options.draft:
            body |= DRAFTS
        count = 0
        async with aclosing(self._http.lines("/completion", body)) as found:
            async for lines in found:
                chunks = [reader.read(line) for line in lines]
                for index, chunk in enumerate(chunks):
                    if chunk.ids and chunk.tokens_out > count + 1:
                        chunks[index] = await self._whole(chunk, chunk.tokens_out - count - 1)
                    count = chunk.tokens_out
                if chunks:
                    yield chunks
                    if chunks[-1].stop is not None:
                        return
        raise errors.EngineFailed("the engine ended its answer before the text's end")

    async def converse(
        self, prompt: Prompt, talk: Talk, *, max_tokens: int, seed: int
    ) -> AsyncGenerator[list[Chunk], None]:
        """Yield the next turn of a conversation, as llama.cpp's own chat takes it apart; see `Engine.converse`."""
        body = chat(prompt, talk, max_tokens=max_tokens, seed=seed, reuse_prompt=self._slots > 1)
        reader = ChatReader()
        try:
            async with aclosing(self._http.lines("/v1/chat/completions", body)) as found:
                async for lines in found:
                    chunks = [chunk for line in lines for chunk in reader.read(line)]
                    if chunks:
                        yield chunks
                        if chunks[-1].stop is not None:
                            return
        except Refused:
            raise invalid([FieldProblem("tools", "the engine does not accept them, or these messages")]) from None
        raise errors.EngineFailed("the engine ended its answer before the text's end")

    async def embed(self, inputs: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        """Return a vector for each input; see `Embedding.embed`."""
        return await vectors(self._http, inputs)

    async def pair_size(self, query: str, document: str) -> int:
        """Return how many tokens a query and a document are; see `Embedding.pair_size`."""
        sizes = [len(await self._prompts.tokens(text, special=False)) for text in (query, document) if text]
        return sum(sizes) + self._around_pair

    async def rank(self, query: str, documents: Sequence[str]) -> Sequence[float]:
        """Return a score for each document; see `Embedding.rank`."""
        return await scores(self._http, query, documents)

    async def let_go(self) -> None:
        """Wait for a slot that works without a reader; see `Engine.let_go`.

        llama.cpp answers between two batches, and only a request that has a slot has sent anything.
        """
        while True:
            slots = await self._http.ask("GET", "/slots", None, list[_Slot])
            if sum(slot.is_processing for slot in slots) <= self._http.working:
                return
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        """End the process; see `Engine.close`. What its slots hold is kept where it shall be."""
        snapshots, self._snapshots = self._snapshots, None
        if snapshots is not None:
            with contextlib.suppress(errors.EngineFailed, TimeoutError):
                async with asyncio.timeout(LET_GO_S):
                    await self.let_go()
            await snapshots.save()
        await self._http.close()
        await self._process.close()

    async def _restore(self, options: HostOptions) -> None:
        """Give the slots what an earlier worker has kept, if there is a place for that."""
        if self._snapshot_folder:
            setup = {"engine": self.name, **options.cache_setup()}
            marked = await asyncio.to_thread(mark, options.paths, setup)
            folder = Path(self._snapshot_folder)
            self._snapshots = Snapshots(folder, self._snapshot_bytes, mark=marked, http=self._http)
            await self._snapshots.restore(self._slots)

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
        return chunk._replace(ids=await self._prompts.tokens(chunk.text.replace(REPLACEMENT, ""), special=False))


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
