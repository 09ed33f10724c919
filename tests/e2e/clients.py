"""The clients of a chaos run: they submit, read, leave, come back and cancel, and write down what they were told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

import aiohttp

from tests.support.auditor import Expected, Job, Reference
from tests.support.plans import JobPlan
from tests.support.transcripts import LATER, Habits, Transcript, follow, take

ASK_S = 20.0
T = TypeVar("T")


@dataclass(slots=True)
class Clients:
    """All clients of a run, and what they have seen. `problems` are answers that nobody should get."""

    url: str
    references: dict[str, Reference]
    jobs: dict[str, Job] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def unfinished(self) -> list[str]:
        """Tell, for each reader that still waits, what it saw last."""
        return [
            f"{transcript.job_id}, {transcript.reader}: {len(transcript.events)} events, {transcript.events[-1:]}"
            for job in self.jobs.values()
            for transcript in job.transcripts
            if not transcript.ended
        ]

    async def use(self, plan: JobPlan) -> None:
        """Do with one job what its plan says, to its end."""
        random = Random(plan.number)
        await asyncio.sleep(plan.at_s)
        first = Transcript("", "submitter")
        async with aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(total=None, connect=10)) as http:
            async with asyncio.TaskGroup() as tasks:
                asked = [
                    tasks.create_task(self._submit(http, plan, first if plan.streamed and not number else None))
                    for number in range(plan.submitters)
                ]
            ids = {task.result() for task in asked} - {None}
            if len(ids) != 1:
                self.problems.append(f"job number {plan.number}: one key gave the jobs {ids}")
                return
            first.job_id = job_id = str(ids.pop())
            job = self.jobs[job_id] = Job(job_id, self._expected(plan))
            job.transcripts = [Transcript(job_id, f"reader {number}") for number in range(len(plan.readers))]
            async with asyncio.TaskGroup() as tasks:
                for transcript, habits in zip(job.transcripts, plan.readers, strict=True):
                    tasks.create_task(self._read(http, transcript, habits, random))
                if plan.streamed:
                    job.transcripts.append(first)
                    tasks.create_task(self._read(http, first, Habits(), random))
                if plan.cancel_after_s is not None:
                    tasks.create_task(self._cancel(http, job, plan.cancel_after_s))

    def _expected(self, plan: JobPlan) -> Expected:
        return Expected(
            max_tokens=plan.body["max_tokens"],
            stop=plan.body.get("stop", ()),
            reference=self.references[reference_key(plan)] if plan.exact else None,
            may_cancel=plan.may_cancel,
            may_be_late=plan.body["timeout_ms"] < 900_000,
        )

    async def _submit(self, http: aiohttp.ClientSession, plan: JobPlan, transcript: Transcript | None) -> str | None:
        headers = {"Idempotency-Key": f"job-{plan.number}"}
        if transcript is not None:
            headers["Accept"] = "text/event-stream"

        async def answered(response: aiohttp.ClientResponse) -> str:
            job_id = response.headers["X-Job-Id"]
            if transcript is not None:
                transcript.job_id = job_id
                try:
                    await take(transcript, response, Habits())
                except (aiohttp.ClientError, OSError, TimeoutError):
                    self.counts["submission streams that broke"] += 1
            return job_id

        return await self._ask(
            lambda: http.post("/v2/tasks", json=plan.body, headers=headers), f"submission {plan.number}", answered
        )

    async def _read(self, http: aiohttp.ClientSession, transcript: Transcript, habits: Habits, random: Random) -> None:
        await asyncio.sleep(habits.delay_s)
        await follow(http, transcript, habits, random)
        self.counts["resumed connections"] += max(0, transcript.connections - 1)

    async def _cancel(self, http: aiohttp.ClientSession, job: Job, after_s: float) -> None:
        await asyncio.sleep(after_s)

        async def answered(response: aiohttp.ClientResponse) -> str:
            status: str = (await response.json())["status"]
            if response.status == 200:
                job.cancel_answers.append(status)
            return status

        status = await self._ask(lambda: http.delete(f"/v2/tasks/{job.job_id}"), f"cancel of {job.job_id}", answered)
        self.counts[f"cancellations answered {status}"] += 1

    async def _ask(
        self,
        send: Callable[[], aiohttp.client._RequestContextManager],
        what: str,
        answered: Callable[[aiohttp.ClientResponse], Awaitable[T]],
    ) -> T | None:
        """Ask again until there is an answer; None when it was one that nobody should get."""
        while True:
            try:
                async with asyncio.timeout(ASK_S) as limit, send() as response:
                    if response.status in {200, 202}:
                        limit.reschedule(None)  # what follows may be a stream
                        return await answered(response)
                    if response.status not in LATER:
                        self.problems.append(f"{what}: {response.status} {await response.text()}")
                        return None
                    self.counts[f"answered {response.status}"] += 1
            except (aiohttp.ClientError, OSError, TimeoutError):
                self.counts["requests asked again"] += 1
            await asyncio.sleep(0.1)


def reference_key(plan: JobPlan) -> str:
    """Return the name of the one right text of an exact job."""
    return repr(sorted(plan.plain.items()))
