"""What jobs say, for those inside that need their text: read to the end, as any reader does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import msgspec

from llorch.errors import LlorchError
from llorch.job import JobId
from llorch.sse import Splitter
from llorch.wire import events
from llorch.wire.codec import encode, pieces
from llorch.wire.events import START
from roles.orchestrator.core import Orchestrator
from roles.orchestrator.dialects.answer import Answer, Gathering, Step, read

LARGE_TEXT = 64 * 1024
"""From so many characters on, making a reply of a job's text takes so long that others would wait for it."""


class Unfinished(LlorchError):
    """A job's events ended before the job did: the orchestrator is on its way out."""


async def steps(core: Orchestrator, job: JobId, *, owner: str) -> AsyncGenerator[Step, None]:
    """Yield what a job's events say, to its end.

    Raises:
        LlorchError: The job ended without (all of) its text.
    """
    splitter = Splitter()
    async with aclosing(await core.follow(job, START, owner=owner)) as blocks:
        async for data in blocks:
            for step in read(splitter, data):
                yield step


async def whole(core: Orchestrator, job: JobId, *, owner: str) -> Answer:
    """Return all that a job put out, once it has ended.

    Raises:
        Unfinished: Nobody can know now how it ends.
        LlorchError: The job ended without (all of) its text.
    """
    gathering = Gathering(job)
    async with aclosing(steps(core, job, owner=owner)) as found:
        async for step in found:
            if isinstance(step, events.Token):
                gathering.add(step)
            elif isinstance(step, events.Started):
                gathering.engine = gathering.engine or step.engine
            elif isinstance(step, events.End):
                return gathering.answer(step)
    raise Unfinished("the job's events ended before the job did")


async def told(answers: Sequence[Answer], build: Callable[[], msgspec.Struct]) -> list[bytes]:
    """Return what *build* makes of some answers as pieces of JSON; large ones are built and encoded in a thread.

    Raises what *build* does.
    """
    if sum(len(answer.text) for answer in answers) < LARGE_TEXT:
        return [encode(build())]
    return await asyncio.to_thread(lambda: list(pieces(build())))


def room(core: Orchestrator, model: str) -> int | None:
    """Return the context of the model that is asked for, if a pool has told it and its file says.

    Raises:
        ModelNotFound: No such alias.
    """
    known = core.fleet.model(core.names.here(model))
    return known.context_length or None if known is not None else None
