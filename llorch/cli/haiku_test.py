"""The haiku test: a real model, asked through the whole system for a poem with a certain word, uses that word."""

from __future__ import annotations

import tempfile
import time
from contextlib import aclosing, closing
from pathlib import Path

import msgspec

from llorch.cli.figures import duration, rate
from llorch.cli.local import sites
from llorch.cli.minute_words import contains
from llorch.cli.output import Status, note, one_line, write_text
from llorch.cli.submit import JobFailed, loading_text, submit
from llorch.client import Client
from llorch.program import called
from llorch.serve import all_running
from llorch.settings import Orchestrator, Pool, Settings
from llorch.wire.codec import decode_reply
from llorch.wire.events import End, Failed, Loading, Token
from llorch.wire.tasks import SubmitTask

MODEL = "haiku"
MAX_TOKENS = 96

NEXT = ("serve all", f'jobs submit --model {MODEL} --prompt "Write a haiku about rain"', "pool status")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the test showed. Times in milliseconds: to start, to load the model, from the request to the first token."""

    passed: bool
    word: str
    text: str
    model: str
    start_ms: int
    load_ms: int
    first_token_ms: int
    tokens: int
    decode_ms: int


async def run(word: str, *, begun_s: float, quiet: bool = False) -> Outcome:
    """Start all roles on free ports in a temporary directory, ask, end everything; unless *quiet*, print the poem.

    Args:
        word: What the haiku shall contain.
        begun_s: When the command began, by `time.monotonic`.
        quiet: Print nothing.

    Raises:
        JobFailed: There was no answer.
    """
    with tempfile.TemporaryDirectory(prefix="llorch-demo-") as folder, closing(Status(wanted=not quiet)) as line:
        line.show("starting orchestrator, pool and worker in this process …")
        async with all_running(sites(_settings(Path(folder)))) as served:
            start_ms = _since(begun_s)
            async with Client(served[0].url, what="the orchestrator") as client:
                return await _ask(client, word, start_ms, line, quiet=quiet)


def report(outcome: Outcome) -> str:
    """Return the verdict, the figures, and what to do next."""
    verdict = "The haiku contains" if outcome.passed else "FAILED: the haiku does not contain"
    figures = (
        f"started in {duration(outcome.start_ms)} · worker ready after {duration(outcome.load_ms)}"
        f" · first token after {duration(outcome.first_token_ms)}"
        f" · {outcome.tokens} tokens, {rate(outcome.tokens, outcome.decode_ms)}"
    )
    lines = [f"\n{verdict} “{outcome.word}”.", f"{figures}\n", "Try next:", *(f"  {called()} {each}" for each in NEXT)]
    return "\n".join(lines)


async def _ask(client: Client, word: str, start_ms: int, line: Status, *, quiet: bool) -> Outcome:
    request = f"Write a haiku that contains the word {word}"
    if not quiet:
        line.close()
        note(f"> {request}\n")
    begun_s = time.monotonic()
    task = SubmitTask(model=MODEL, prompt=request, temperature=0, max_tokens=MAX_TOKENS)
    job = await submit(client, task)
    text, load_ms, first_token_ms = "", 0, 0
    async with aclosing(client.follow(job.events_url)) as events:
        async for event in events:
            if event.kind == "loading":
                line.show(loading_text(decode_reply(event.data, Loading)))
            elif event.kind == "started":
                load_ms = load_ms or _since(begun_s)
            elif event.kind == "token":
                line.close()
                first_token_ms = first_token_ms or _since(begun_s)
                piece = decode_reply(event.data, Token).t
                text += piece
                if not quiet:
                    write_text(piece)
            elif event.kind == "error":
                failed = decode_reply(event.data, Failed)
                raise JobFailed(f"{failed.code}: {one_line(failed.message)}")
            elif event.kind == "end":
                end = decode_reply(event.data, End)
    if not quiet:
        write_text("\n")
    return Outcome(
        passed=contains(text, word),
        word=word,
        text=text,
        model=job.model_ref,
        start_ms=start_ms,
        load_ms=load_ms,
        first_token_ms=first_token_ms - load_ms,
        tokens=end.tokens_out,
        decode_ms=end.decode_time_ms,
    )


def _settings(folder: Path) -> Settings:
    """Return settings that owe nothing to this user's configuration."""
    return Settings(
        orchestrator=Orchestrator(port=0, data_dir=str(folder / "orchestrator")),
        pool=Pool(port=0, data_dir=str(folder / "pool"), pool_id="demo"),
    )


def _since(begun_s: float) -> int:
    return round((time.monotonic() - begun_s) * 1000)
