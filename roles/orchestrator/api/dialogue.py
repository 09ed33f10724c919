"""What the APIs of other programs share: submit jobs on a client's behalf, read their text, end them if it leaves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from llorch.edge import bearer, correlation_id
from llorch.job import JobId
from llorch.log import fingerprint
from llorch.wire.tasks import SubmitTask
from roles.orchestrator import answers
from roles.orchestrator.api.keys import CORE
from roles.orchestrator.dialects.answer import Answer, Step


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


def steps(request: web.Request, job: JobId) -> AsyncGenerator[Step, None]:
    """Yield what a job's events say, to its end; see `answers.steps`."""
    return answers.steps(request.app[CORE], job, owner=_owner(request))


async def whole(request: web.Request, job: JobId) -> Answer:
    """Return a job's whole text, once it has ended; raises as `steps` does."""
    return await answers.whole(request.app[CORE], job, owner=_owner(request))


def room(request: web.Request, model: str) -> int | None:
    """Return the context of the model that is asked for, if a pool has told it; see `answers.room`."""
    return answers.room(request.app[CORE], model)


def _owner(request: web.Request) -> str:
    token = bearer(request)
    return fingerprint(token) if token else ""
