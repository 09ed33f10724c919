"""What the APIs of other programs share: submit jobs on a client's behalf, read their text, end them if it leaves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import wraps

import msgspec
from aiohttp import web

from llorch.edge import bearer, correlation_id, reply
from llorch.errors import LlorchError
from llorch.job import JobId
from llorch.log import fingerprint
from llorch.sse import Splitter
from llorch.wire import events
from llorch.wire.events import START
from llorch.wire.tasks import SubmitTask
from roles.orchestrator.api.keys import CORE
from roles.orchestrator.dialects.answer import Answer, Gathering, Step, read

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Words = Callable[[LlorchError, str], msgspec.Struct]


def speaking(words: Words) -> Callable[[Handler], Handler]:
    """Have a handler's errors answered in the words of another API; the second argument is the correlation id."""

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except LlorchError as error:
                headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
                return reply(words(error, correlation_id(request)), status=error.status, headers=headers)

        return handle

    return decorate


@asynccontextmanager
async def jobs(request: web.Request, tasks: Sequence[SubmitTask]) -> AsyncIterator[list[JobId]]:
    """Submit jobs for the length of the block; those that have not ended by then are cancelled.

    Raises:
        LlorchError: One of them was refused.
    """
    core = request.app[CORE]
    accepted: list[JobId] = []
    try:
        for task in tasks:
            job = await core.submissions.submit(
                task, key=None, owner=_owner(request), correlation_id=correlation_id(request)
            )
            accepted.append(JobId(job.job_id))
        yield accepted
    finally:
        for job_id in accepted:
            core.dispatcher.abandon(job_id)


async def steps(request: web.Request, job: JobId) -> AsyncGenerator[Step, None]:
    """Yield what a job's events say, to its end.

    Raises:
        LlorchError: The job ended without (all of) its text.
    """
    splitter = Splitter()
    async with aclosing(await request.app[CORE].follow(job, START, owner=_owner(request))) as blocks:
        async for data in blocks:
            for step in read(splitter, data):
                yield step


async def whole(request: web.Request, job: JobId) -> Answer:
    """Return all that a job put out, once it has ended; raises as `steps` does."""
    gathering = Gathering(job)
    async with aclosing(steps(request, job)) as found:
        async for step in found:
            if isinstance(step, events.Token):
                gathering.add(step)
            elif isinstance(step, events.Started):
                gathering.engine = gathering.engine or step.engine
            elif isinstance(step, events.End):
                return gathering.answer(step)
    raise LlorchError("the job's events ended before the job did")


def room(request: web.Request, model: str) -> int | None:
    """Return the context of the model that is asked for, if a pool has told it.

    Raises:
        ModelNotFound: No such alias.
    """
    core = request.app[CORE]
    known = core.fleet.model(core.names.here(model))
    return None if known is None else known.context_length


def _owner(request: web.Request) -> str:
    token = bearer(request)
    return fingerprint(token) if token else ""
