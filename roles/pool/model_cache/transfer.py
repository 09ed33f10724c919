"""The pool's side of a fetching process: starts it, agrees to what it found, listens, and ends it whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Iterator

import msgspec

from llorch import program
from llorch.errors import DownloadFailed, LlorchError, RemoteError
from llorch.wire.models import FileFacts
from roles.pool.model_cache.fetch import COMMAND, Order, Report

MAX_LINE_BYTES = 4 * 1024 * 1024
LAST_WORDS = 500


@contextlib.contextmanager
def passing_trouble() -> Iterator[None]:
    """Raise `DownloadFailed`, which is tried again, for an error of the system, such as too many open files."""
    try:
        yield
    except OSError as error:
        raise DownloadFailed(f"this host cannot fetch the model just now: {error.strerror or error}") from error


async def transfer(
    order: Order, *, agree: Callable[[list[FileFacts]], Awaitable[None]], heard: Callable[[Report], None]
) -> list[FileFacts]:
    """Fetch a model in a process of its own; return its files, each with the hash that it has.

    A caller that is cancelled, or an *agree* that raises, ends the process at once.

    Args:
        order: What to fetch.
        agree: Called once with the files that there are, before anything is transferred.
        heard: Called with every report of progress.

    Raises:
        LlorchError: Why it could not be done, with `retriable` and `retry_after_s`; or what *agree* raised.
    """
    env = program.environment({"HF_HUB_DISABLE_PROGRESS_BARS": "1"}, outlives_parent=False)
    env.pop("LLORCH_API_TOKEN", None)
    with passing_trouble():
        process = await asyncio.create_subprocess_exec(
            *program.command(COMMAND),
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            env=env,
            start_new_session=True,
            limit=MAX_LINE_BYTES,
        )
    try:
        return await _listen(process, order, agree, heard)
    finally:
        program.signal_group(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())


async def _listen(
    process: Process,
    order: Order,
    agree: Callable[[list[FileFacts]], Awaitable[None]],
    heard: Callable[[Report], None],
) -> list[FileFacts]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    last_words = ""
    with contextlib.suppress(ConnectionError):  # it has ended already; why, is in what it wrote
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        await process.stdin.drain()
    while line := await process.stdout.readline():
        try:
            report = msgspec.json.decode(line, type=Report)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            last_words = (line.decode(errors="replace").strip() or last_words)[-LAST_WORDS:]
            continue
        if report.kind == "files":
            await agree(report.files)
            with contextlib.suppress(ConnectionError):
                process.stdin.write(b"go\n")
                await process.stdin.drain()
        elif report.kind == "done":
            return report.files
        elif report.kind == "failed":
            raise _failure(report)
        else:
            heard(report)
    raise DownloadFailed(f"the process that fetches the model ended without a word: {last_words or 'it was killed'}")


def _failure(report: Report) -> LlorchError:
    return RemoteError(
        report.message,
        code=report.code,
        status=500,
        retriable=report.retriable,
        retry_after_s=report.retry_after_s,
        details=report.details or None,
    )
