"""Carries batches out: reads their files, has each line be a job or several, and writes down what comes of it.

Strategy: the database says how far each batch is, and nothing else does. Each look at it moves every batch by what can
be done now. A line's jobs have idempotency keys, so that after a crash it is simply asked again: what ran is found,
what did not run is run. An answer is written once, in the transaction that counts it. Files of results are made from
the answers when all are there, under names that depend on the batch alone, so that making them again makes the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial

import msgspec

from llorch import log
from llorch.errors import BusyError, LlorchError, PeerError
from llorch.job import JobId
from llorch.wire.batches import BatchLine, BatchProblem, BatchProblems, BatchStatus
from llorch.wire.codec import decode, encode
from llorch.wire.tasks import SubmitTask
from roles.orchestrator import answers
from roles.orchestrator.batches import folder as disk
from roles.orchestrator.batches import lines
from roles.orchestrator.batches.folder import Folder
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.core import Orchestrator
from roles.orchestrator.dialects.answer import Answer
from roles.orchestrator.state.batches import BatchRow, BatchTables, FileRow, LineRow
from roles.orchestrator.state.store import Store

TICK_S = 1.0
AGAIN_S = 1.0
_log = log.get("orchestrator.batches")


class Runner:
    """The loop that moves batches on. Owns the tasks of the lines in flight.

    Args:
        core: Takes the jobs.
        store: Finds the jobs that an earlier process submitted.
        tables: Files and batches in the database.
        folder: The files on disk.
        clock_ms: The time.
        longest: Bytes that a line may have.
    """

    def __init__(
        self, core: Orchestrator, store: Store, *, tables: BatchTables, folder: Folder, clock_ms: ClockMs, longest: int
    ) -> None:
        self._core = core
        self._store = store
        self._tables = tables
        self._folder = folder
        self._clock_ms = clock_ms
        self._longest = longest
        self._wake = asyncio.Event()
        self._flying: dict[int, dict[int, asyncio.Task[None]]] = {}
        self._fed: dict[int, int] = {}
        self._hungry: set[int] = set()
        """Batches that may have lines left to begin."""
        self._turns: dict[int, int] = {}
        """When each batch began a line last, in looks."""
        self._looks = 0
        self._troubled: set[int] = set()
        """Batches whose files could not be read or written the last time."""

    def wake(self) -> None:
        """Have a look soon."""
        self._wake.set()

    async def run(self) -> None:
        """Move batches on until cancelled; lines in flight are then left to the next process."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                try:
                    await self._look(group)
                except BusyError as error:  # the disk is full or read-only; the next look tries again
                    _log.warning("batches_wait", code=error.code, reason=error.message)
                    await asyncio.sleep(AGAIN_S)
                try:
                    async with asyncio.timeout(TICK_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _look(self, group: asyncio.TaskGroup) -> None:
        found = await self._tables.in_work()
        self._looks += 1
        self._hungry |= {batch.seq for batch in found if batch.status == "in_progress" and batch.seq not in self._fed}
        for batch in sorted(found, key=lambda batch: self._turns.get(batch.seq, 0)):
            try:
                await self._move(batch, group)
            except FileNotFoundError:  # the database is from a backup, which has no files
                gone = BatchProblem(code="file_not_found", message="the input file is not there any more")
                await self._end(batch, "failed", problems=[gone])
            except OSError as error:  # somebody may mend it before the batch expires
                if batch.seq not in self._troubled:
                    _log.error("batch_files_fail", batch=batch.id, reason=str(error))
                self._troubled.add(batch.seq)
            else:
                self._troubled.discard(batch.seq)

    async def _move(self, batch: BatchRow, group: asyncio.TaskGroup) -> None:
        if batch.status == "cancelling":
            await self._end(batch, "cancelled")
        elif batch.status != "finalizing" and self._clock_ms() >= batch.expires_ms:
            await self._end(batch, "expired")
        elif batch.status == "validating":
            await self._validate(batch)
        elif batch.status == "in_progress":
            await self._feed(batch, group)
        else:
            await self._end(batch, "completed")

    async def _validate(self, batch: BatchRow) -> None:
        """Look at every line, and note where it is; a file with a broken one is refused as a whole."""
        await self._tables.begin_lines(batch.seq)
        problems: list[BatchProblem] = []
        start, number, total = 0, 1, 0
        while len(problems) < lines.MAX_PROBLEMS and total <= lines.MAX_LINES:
            read = await asyncio.to_thread(
                self._folder.stretch, batch.input_file_id, start=start, number=number, longest=self._longest
            )
            if not read:
                break
            start, number = read[-1].end, read[-1].number + 1
            fresh, wrong = await asyncio.to_thread(
                lines.sorted_out, read, endpoint=batch.endpoint, longest=self._longest
            )
            problems += wrong
            twice = await self._tables.add_lines(batch.seq, fresh)
            problems += [lines.duplicate(twice.number)] if twice is not None else []
            total += len(fresh)
            if any(problem.code == "line_too_long" for problem in problems):
                break
        problems = problems[: lines.MAX_PROBLEMS] or list(lines.count_problem(total))
        if problems:
            await self._end(batch, "failed", problems=problems)
        else:
            await self._tables.advance(batch.seq, "validating", "in_progress", now_ms=self._clock_ms(), total=total)
        self.wake()

    async def _feed(self, batch: BatchRow, group: asyncio.TaskGroup) -> None:
        """Begin as many lines as there is room for; when none is left, go on to the files."""
        flying = self._flying.setdefault(batch.seq, {})
        self._hungry.add(batch.seq)
        hungry = (self._hungry - self._troubled) | {batch.seq}
        counts = {seq: len(found) for seq, found in self._flying.items()}
        room = lines.share(
            own=len(flying),
            ended=sum(count for seq, count in counts.items() if seq not in hungry),
            flying=sum(counts.values()),
            hungry=len(hungry),
            waiting=len(self._core.dispatcher.queue),
            capacity=self._core.queue_capacity,
        )
        after = self._fed.setdefault(batch.seq, 0)
        rows = await self._tables.lines(batch.seq, after=after, limit=max(1, room), pending=True)
        if not rows:
            self._hungry.discard(batch.seq)
        if not rows and not flying:
            await self._tables.advance(batch.seq, "in_progress", "finalizing", now_ms=self._clock_ms())
            self.wake()
        if not rows or room == 0 or self._core.draining:
            return
        texts = await asyncio.to_thread(
            self._folder.lines, batch.input_file_id, [row.start for row in rows], longest=self._longest
        )
        self._turns[batch.seq] = self._looks
        for row, text in zip(rows, texts, strict=True):
            self._fed[batch.seq] = row.number
            task = group.create_task(self._carry_out(batch, row, text), name=f"line {row.number} of {batch.id}")
            flying[row.number] = task
            task.add_done_callback(lambda _, row=row: self._landed(flying, row.number))  # type: ignore[misc]  # a default
        if len(rows) < room:
            self._hungry.discard(batch.seq)
            self.wake()  # the others' shares have grown

    def _landed(self, flying: dict[int, asyncio.Task[None]], number: int) -> None:
        flying.pop(number, None)
        self.wake()

    async def _carry_out(self, batch: BatchRow, row: LineRow, text: bytes) -> None:
        """Have one line answered, and write the answer down."""
        try:
            found = await self._answer(batch, row, decode(text, BatchLine))
            done = LineRow(row.number, row.custom_id, row.start, "completed", found)
        except LlorchError as error:
            found = lines.failed(row.custom_id, error, batch.correlation_id, endpoint=batch.endpoint)
            done = LineRow(row.number, row.custom_id, row.start, "failed", found)
        except Exception:  # noqa: BLE001 - a bug: it costs this line alone, the log gets the traceback
            _log.exception("line_failed", batch=batch.id, line=row.number)
            wrong = LlorchError("something is wrong on the server; see its log")
            found = lines.failed(row.custom_id, wrong, batch.correlation_id, endpoint=batch.endpoint)
            done = LineRow(row.number, row.custom_id, row.start, "failed", found)
        await self._tables.answer(batch.seq, done)

    async def _answer(self, batch: BatchRow, row: LineRow, line: BatchLine) -> bytes:
        wanted = lines.asked(line)
        left_ms = batch.expires_ms - self._clock_ms()
        tasks = lines.tasks(wanted, batch.id, room=answers.room(self._core, wanted.model), left_ms=left_ms)
        again = late = 0
        while True:
            found: list[Answer] = []
            jobs = [
                await self._job(batch, task, lines.key(batch.id, row.number, number, again))
                for number, task in enumerate(tasks)
            ]
            try:
                for job in jobs:
                    found.append(await answers.whole(self._core, job, owner=batch.owner))  # noqa: PERF401 - to be counted
            except answers.Unfinished:
                await asyncio.sleep(AGAIN_S)
                continue
            except LlorchError as error:
                for job in jobs:
                    self._core.dispatcher.abandon(job)
                failed = await self._store.get(jobs[len(found)])
                if not lines.again(error, failed, late=late):
                    raise
                again += 1
                late += error.code not in lines.NEVER_RAN
                continue
            build = partial(lines.body, wanted, found, created_s=self._clock_ms() // 1000)
            return lines.answered(row.custom_id, msgspec.Raw(b"".join(await answers.told(found, build))))

    async def _job(self, batch: BatchRow, task: SubmitTask, key: str) -> JobId:
        """Return the job of a key: the one that is there, or a new one, once there is room for it."""
        while True:
            known = await self._store.by_key(batch.owner, key)
            if known is not None:
                return known.id
            try:
                accepted = await self._core.submissions.submit(
                    task, key=key, owner=batch.owner, correlation_id=batch.correlation_id
                )
            except (BusyError, PeerError):  # no room now, or a hub that does not answer: a batch has time
                await asyncio.sleep(AGAIN_S)
            else:
                return JobId(accepted.job_id)

    async def _end(self, batch: BatchRow, status: BatchStatus, *, problems: Sequence[BatchProblem] = ()) -> None:
        """End what still runs of a batch, write its files, and close it."""
        await self._stop(self._flying.pop(batch.seq, {}).values())
        await self._tables.settled()
        for job in await self._tables.unfinished_jobs(batch):
            self._core.dispatcher.abandon(JobId(job))
        kinds = [("completed", "output"), ("failed", "error")] if batch.in_progress_ms is not None else []
        files = [await self._results(batch, status, outcome=outcome, kind=kind) for outcome, kind in kinds]
        errors = encode(BatchProblems(data=list(problems))).decode() if problems else None
        written = [file for file in files if file is not None]
        await self._tables.end(batch, status, now_ms=self._clock_ms(), files=written, errors=errors)
        await self._tables.forget_lines()
        self._fed.pop(batch.seq, None)
        self._turns.pop(batch.seq, None)
        self._hungry.discard(batch.seq)
        _log.info("batch_ended", batch_id=batch.id, status=status)

    async def _stop(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        stopped = list(tasks)
        for task in stopped:
            task.cancel()
        if stopped:
            await asyncio.wait(stopped)

    async def _results(self, batch: BatchRow, status: BatchStatus, *, outcome: str, kind: str) -> FileRow | None:
        """Write the answers of one kind to a file, those of lines that were not carried out to the errors."""
        file_id = f"file-{batch.id.removeprefix('batch_')}-{kind}"
        file = await asyncio.to_thread(self._folder.create, file_id)
        after, size = 0, 0
        kept = False
        try:
            while rows := await self._tables.lines(batch.seq, after=after):
                after = rows[-1].number
                told = [row.answer or b"" for row in rows if row.outcome == outcome]
                if outcome == "failed" and status in lines.UNDONE:
                    told += [lines.undone(row.custom_id, status) for row in rows if row.outcome is None]
                await asyncio.to_thread(disk.write, file, b"".join(told))
                size += sum(map(len, told))
            if size:
                await asyncio.to_thread(self._folder.keep, file_id, file)
                kept = True
        finally:
            if not kept:
                await asyncio.to_thread(self._folder.drop, file_id, file)
        now_ms = self._clock_ms()
        name = f"{batch.id}_{kind}.jsonl"
        row = FileRow(
            id=file_id, filename=name, purpose="batch_output", bytes=size, created_ms=now_ms, kept_from_ms=now_ms
        )
        return row if size else None
