"""A server that is not llorch's as an engine: our Protocol over OpenAI's API, for vLLM, SGLang, llama-server and more.

Strategy: the server has its own tokens, batches and memory; a worker adds slots, cancellation and a watch. Jobs go as
text, so that another worker goes on behind the text that is there, where the server lets a conversation be continued.
What it cannot know is not made up: ids are never told, and a number of tokens that is an estimate says so.

Nobody outside such a server can see whether it still works on a request that was left; closing the connection is all
that can be done, and vLLM, SGLang and llama-server stop then.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager

from llorch import config, errors
from llorch.models import ServerRef
from llorch.server_facts import DEFAULT_CONTEXT, DEFAULT_SLOTS, Facts, of_model
from llorch.server_http import Away, Refusal, ServerHttp
from llorch.settings import Server
from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.tasks import Sampling, Talk
from roles.worker.backend import Chunk, ModelFacts, Prompt
from roles.worker.backend import openai_words as words
from roles.worker.backend.grammar import must_call
from roles.worker.backend.llamacpp_options import quant_kind, top_logprobs
from roles.worker.backend.openai_command import Command
from roles.worker.backend.openai_reader import Reader
from roles.worker.backend.openai_tokens import Counter

POLL_S = 0.2
CHECK_EVERY_S = 10.0
MAX_MISSES = 3
KEY_REFUSED = frozenset({401, 403})
TOO_MANY = 429
CALLERS_FAULT, SERVERS_FAULT = frozenset({400, 413, 422}), 500
NOT_THERE = frozenset({404})
LONGEST_WAIT_S = 30.0
"""So long a job waits, in all, for a server that has too many requests."""
END_TOLD_S = 2.0
"""A server that was started here and has ended is known to have, at the latest, so long after nobody answers."""
KEY_VARIABLES = ("VLLM_API_KEY", "LLAMA_API_KEY")
"""Where vLLM and llama-server look for the key that they are to ask for."""


class OpenAiServer:
    """One model of one server.

    Args:
        tasks: Owns the tasks that watch it.
        ref: The model.
        server: Where it is, or how it is started.
    """

    def __init__(self, tasks: asyncio.TaskGroup, ref: ServerRef, server: Server) -> None:
        self.name = "openai"
        self._tasks = tasks
        self._model = ref.model
        self._what = f"the server {ref.server}"
        self._section = f"[pool.servers.{ref.server}]"
        self._server = server
        self._http = ServerHttp(server.url, what=self._what)
        self._facts = Facts("openai")
        self._context = 0
        self._counter = Counter(self._http, self._facts, ref.model)
        self._command = Command(tasks)
        self._opened = AsyncExitStack()
        self._doubted = asyncio.Event()
        self._gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._watching: list[asyncio.Task[None]] = []

    async def load(self, on_progress: Callable[[float], None]) -> ModelFacts:
        """Find the server, or start it; see `Engine.load`.

        Raises:
            ModelNotFound: It does not have the model.
            InvalidConfiguration: The key cannot be read, or the server does not accept it.
            EngineFailed: It does not answer, or ended.
        """
        path = self._server.api_key_file
        key = await asyncio.to_thread(config.secret, path) if path else ""
        self._http = await self._opened.enter_async_context(ServerHttp(self._server.url, key=key, what=self._what))
        if self._server.command:
            await self._start(key, on_progress)
        with _keyed(self._section):
            facts = self._facts = await self._http.facts(self._model)
        self._counter = Counter(self._http, facts, self._model)
        await self._counter.open()
        self.name = f"openai/{facts.family}" + (f"-{facts.version}" if facts.version else "")
        self._context = self._server.context or facts.context or DEFAULT_CONTEXT
        self._watching.append(self._tasks.create_task(self._watch(), name="server-watch"))
        on_progress(100.0)
        return ModelFacts(
            context_length=self._context,
            vocab_size=facts.vocab_size,
            quant_kind=quant_kind(facts.quant_kind) if facts.quant_kind else "",
            memory_bytes=0,
            slots=self._server.slots or facts.slots or DEFAULT_SLOTS,
            takes_tokens=False,
            counts_tokens=self._counter.exact,
        )

    async def died(self) -> str:
        """Return why the server is gone; see `Engine.died`."""
        return await asyncio.shield(self._gone)

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Return the prompt's tokens, or about as many as there are; see `Engine.tokenize`."""
        try:
            return await self._counter.tokens(prompt)
        except Refusal as refusal:
            raise self._fault(refusal, "messages" if prompt.messages else "prompt") from None
        except Away:
            self._doubted.set()
            raise

    async def check(self, *, grammar: str, tools: bool) -> None:
        """Refuse what the server is known not to do; the rest its answer tells. See `Engine.check`."""
        if grammar:
            raise errors.InvalidRequest("the engine openai takes no grammar: a server enforces JSON schemas itself")
        if tools and not self._facts.knows_tools:
            raise invalid([FieldProblem("tools", "the model's chat template knows no tools")])

    def generate(
        self, tokens: Sequence[int], sampling: Sampling, *, max_tokens: int, seed: int, grammar: str = ""
    ) -> AsyncGenerator[list[Chunk], None]:
        """Refuse: as `ModelFacts.takes_tokens` says, jobs come as text, to `converse`."""
        raise errors.EngineFailed("the engine openai takes text, not tokens")

    async def converse(
        self, prompt: Prompt, talk: Talk, *, max_tokens: int, seed: int
    ) -> AsyncGenerator[list[Chunk], None]:
        """Yield what the server writes; see `Engine.converse`."""
        facts, model = self._facts, self._model
        words.check(talk, facts.family, has_messages=bool(prompt.messages))
        path, full = "/completions", False
        if prompt.continue_text and facts.family == "llama-server":
            tokens = await self.tokenize(prompt)
            body = words.completion(tokens, talk, model=model, family=facts.family, max_tokens=max_tokens, seed=seed)
        elif prompt.messages:
            path = "/chat/completions"
            # As much as the context holds is what a server writes that is not told; it knows better how much that is.
            full = not self._counter.exact and max_tokens + words.estimate(prompt) >= self._context
            told = None if full else max_tokens
            body = words.chat(prompt, talk, model=model, family=facts.family, max_tokens=told, seed=seed)
        else:
            text = prompt.text + prompt.continue_text
            body = words.completion(text, talk, model=model, family=facts.family, max_tokens=max_tokens, seed=seed)
        reader = Reader(top=top_logprobs(talk), must_call=must_call(talk), max_tokens=max_tokens, limited=not full)
        async with aclosing(self._read(path, body, reader)) as steps:
            async for chunks in steps:
                if chunks[-1].stop is None and reader.exceeds():
                    yield [*chunks, Chunk(tokens_out=chunks[-1].tokens_out, stop="max_tokens")]
                    return
                yield chunks

    async def let_go(self) -> None:
        """Return: the connection of a generation that is not wanted is closed, and more cannot be seen from here."""

    async def close(self) -> None:
        """Leave the server, and end one that was started here; see `Engine.close`."""
        for task in self._watching:
            task.cancel()
        await self._opened.aclose()
        await self._command.close()

    async def _read(self, path: str, body: object, reader: Reader) -> AsyncGenerator[list[Chunk], None]:
        async with aclosing(self._answered(path, body)) as found:
            async for lines in found:
                if chunks := [chunk for line in lines for chunk in reader.read(line)]:
                    yield chunks
        yield [reader.end()]

    async def _answered(self, path: str, body: object) -> AsyncGenerator[list[bytes], None]:
        """Yield what comes of an answer; waits for a server that has too many requests as long as it asks for."""
        waited_s = 0.0
        for wait_s in (1.0 * 2**tries for tries in itertools.count()):
            try:
                async with aclosing(self._http.lines(path, body)) as found:
                    async for lines in found:
                        yield lines
                return
            except Away:
                self._doubted.set()
                raise
            except Refusal as refusal:
                if refusal.http_status in KEY_REFUSED | NOT_THERE or refusal.http_status >= SERVERS_FAULT:
                    self._doubted.set()
                pause_s = wait_s if refusal.retry_after_s is None else max(refusal.retry_after_s, 0.1)
                waited_s += pause_s
                if refusal.http_status != TOO_MANY or waited_s > LONGEST_WAIT_S:
                    raise self._fault(refusal, "") from None
                await asyncio.sleep(pause_s)

    async def _start(self, key: str, on_progress: Callable[[float], None]) -> None:
        """Start the server's command, and wait until it takes requests."""
        if await self._answers():
            raise errors.EngineFailed(
                f"something answers at {self._http.root} before the command of {self._what} was started; "
                "end it, or leave out the command"
            )
        command, server = self._command, self._server

        def heard() -> None:
            on_progress(99 * command.words / (command.words + 20))

        env: Mapping[str, str] = dict.fromkeys(KEY_VARIABLES, key) if key else {}
        await command.start(server.command, env, heard)
        while not await self._answers():
            if command.ended:
                raise errors.EngineFailed(await command.wait(last_words=True))
            if time.monotonic() - command.heard_s > server.ready_timeout_s:
                raise errors.EngineFailed(
                    f"{self._what} takes no requests and has said nothing for {server.ready_timeout_s:g} s"
                )
            await asyncio.sleep(POLL_S)
        self._watching.append(self._tasks.create_task(self._watch_command(), name="server-command"))

    async def _answers(self) -> bool:
        """Tell whether the server takes requests; one that refuses the key does."""
        try:
            if not await self._http.healthy():
                return False
            await self._http.cards()
        except Away:
            return False
        except Refusal as refusal:
            return refusal.http_status in KEY_REFUSED
        return True

    async def _watch(self) -> None:
        """Ask again and again whether the server is there: at once where a job could not reach it."""
        misses = 0
        while not self._gone.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_EVERY_S):
                    await self._doubted.wait()
            self._doubted.clear()
            try:
                if of_model(await self._http.cards(), self._model) is None:
                    self._over(f"{self._what} does not list the model any more")
                misses = 0
            except Away as away:
                misses = MAX_MISSES if away.refused else misses + 1
                if misses >= MAX_MISSES:
                    self._over(await self._why_away(away))
            except Refusal as refusal:
                misses += 1
                if refusal.http_status in KEY_REFUSED:
                    self._over(key_refused(self._section, refusal).message)
                elif refusal.http_status >= SERVERS_FAULT and misses >= MAX_MISSES:
                    self._over(refusal.message)

    async def _why_away(self, away: Away) -> str:
        """Return why nobody answers: how the server that was started here has ended, where that is why."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_TOLD_S):
                if self._server.command:
                    return await self._command.wait(last_words=False)
        return away.message

    async def _watch_command(self) -> None:
        self._over(await self._command.wait(last_words=False))

    def _over(self, reason: str) -> None:
        if not self._gone.done():
            self._gone.set_result(reason)

    def _fault(self, refusal: Refusal, field: str) -> errors.LlorchError:
        """Return whose fault it is that the server refused a request."""
        status = refusal.http_status
        if status == TOO_MANY:
            return errors.EngineFailed(f"{self._what} has too many requests", retry_after_s=refusal.retry_after_s)
        if status in CALLERS_FAULT:
            sign = f" ({refusal.sign})" if refusal.sign else ""
            problem = f"the model's server does not accept the request{sign}"
            return invalid([FieldProblem(field or "messages", problem)])
        return refusal


def key_refused(section: str, refusal: Refusal) -> errors.LlorchError:
    """Return the error for a server that does not accept the key, or asks for one that it does not get."""
    return errors.InvalidConfiguration(
        f"{refusal.message}: it does not accept the key; see api_key_file of {section} in the configuration"
    )


@contextmanager
def _keyed(section: str) -> Iterator[None]:
    """Tell of a key that is refused as a fault of the configuration."""
    try:
        yield
    except Refusal as refusal:
        if refusal.http_status in KEY_REFUSED:
            raise key_refused(section, refusal) from None
        raise
