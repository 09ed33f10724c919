"""The one owner of downloads: starts them, tries again, lets them go on after a restart, tells how far they are.

Strategy: a download is a record on disk from before anybody is told of it until it has ended, and a task in this
process. Its id is the model's, so any number of askers share one. The task waits for one of few places, has the model
fetched by a process (`transfer`), and gives its place up while it waits for a hub that is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from llorch import log, models
from llorch.errors import DiskFull, DownloadFailed, LlorchError
from llorch.models import HubRef
from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.models import FINAL, Download, DownloadModel, Evicted, FileFacts, Started
from roles.pool.metrics import LifecycleMetrics
from roles.pool.model_cache import files, pace, partial, progress
from roles.pool.model_cache.fetch import Order, Report, wanted
from roles.pool.model_cache.ledger import DownloadRecord, Ledger
from roles.pool.model_cache.library import PARTIAL, Library
from roles.pool.model_cache.pace import Patience, may_go_on
from roles.pool.model_cache.runs import Run, Runs
from roles.pool.model_cache.transfer import passing_trouble, transfer

QUIET_S = 15.0
TELL_S = 1.0  # progress reaches the orchestrator at most so often
_log = log.get("pool.downloads")


class Downloads:
    """Every download of this host.

    Args:
        library: Where models go; it makes room.
        ledger: Where records are kept.
        tasks: Owns the tasks.
        at_once: So many at the same time; others wait their turn.
        token: What other pools ask for.
        metrics: Counts how downloads end.
        changed: Called when the orchestrator should hear of something.
        check: Raises where nothing here can run a model of that form.
        clock_ms: Unix milliseconds.
        patience: When a failed try is repeated.
    """

    def __init__(  # noqa: PLR0913 - the parts it works with
        self,
        library: Library,
        ledger: Ledger[DownloadRecord],
        *,
        tasks: asyncio.TaskGroup,
        at_once: int,
        token: str,
        metrics: LifecycleMetrics,
        changed: Callable[[], None],
        check: Callable[[HubRef], Awaitable[None]],
        clock_ms: Callable[[], int],
        patience: Patience | None = None,
    ) -> None:
        self._library = library
        self._ledger = ledger
        self._tasks = tasks
        self._places = asyncio.Semaphore(at_once)
        self._token = token
        self._metrics = metrics
        self._changed = changed
        self._check = check
        self._clock_ms = clock_ms
        self._patience = patience or Patience()
        self._runs = Runs()
        self._told_at = 0.0

    async def open(self) -> None:
        """Go on with what an earlier process has not ended."""
        for record in sorted((await asyncio.to_thread(self._ledger.read)).values(), key=lambda one: one.created_ms):
            ref = models.parse_ref(record.model_ref)
            if isinstance(ref, HubRef):
                run = self._runs.enter(ref, record)
                if record.failed is None:
                    _log.info("download_goes_on", model_ref=record.model_ref)
                    self._start(run)

    def downloads(self) -> list[Download]:
        """Return those that run and those that ended lately, oldest first."""
        return [run.view for run in self._runs.all()]

    def news(self) -> list[Download]:
        """Return what the orchestrator is told: those that run, and those that failed lately."""
        return [run.view for run in self._runs.all() if run.view.state not in {"complete", "cancelled"}]

    def download(self, download_id: str) -> Download:
        """Return one; raises as `cancel` does."""
        return self._runs.get(download_id).view

    async def ask(self, request: DownloadModel) -> Started:
        """Begin a download, or join the one that is under way; on disk when this returns.

        Raises:
            InvalidRequest: The reference does not name a commit and a file, or a dry run does not know the size.
            BackendUnavailable: Nothing here runs such a model.
            DiskFull: There is no room; `details` says what could go.
            DownloadFailed: This host has trouble that may pass.
        """
        ref = wanted(request.model_ref)
        await self._check(ref)
        key = models.model_id(str(ref))
        if request.dry_run:
            return await self._rehearse(ref, request)
        known = self._runs.find(key)
        if known is not None and known.view.state not in FINAL:
            return progress.started(known.view)
        brought = known.record.brought if known is not None else []
        record = DownloadRecord(
            model_ref=str(ref),
            sources=request.sources,
            evict=request.evict,
            created_ms=self._clock_ms(),
            brought=brought,
        )
        run = self._runs.enter(ref, record)
        try:
            with passing_trouble():
                begins = await self._prepare(run, request)
        except LlorchError as error:
            self._end(run, "failed", error)
            raise
        except asyncio.CancelledError:
            self._end(run, "cancelled")
            raise
        except BaseException:  # a bug; nobody shall join what has no task
            self._end(run, "failed", DownloadFailed("the pool could not begin it; its log says why"))
            raise
        if begins:
            self._start(run)
        else:
            self._end(run, "complete")
        return progress.started(run.view)

    async def cancel(self, download_id: str) -> Download:
        """End a download, or one that failed and may go on, and delete what has come; others are told as they are.

        Raises:
            NotFound: None with that id.
        """
        run = self._runs.get(download_id)
        if run.task is not None and not run.task.done():
            run.unwanted = True
            run.task.cancel()
            await asyncio.wait([run.task])
        failed = run.view.state in FINAL and bool(run.record.brought)
        if failed or (run.unwanted and run.view.state not in FINAL):  # its task was ended before it had begun
            await self._discard(run)
            self._end(run, "cancelled")
        return run.view

    async def watch(self, download_id: str) -> AsyncGenerator[Download, None]:
        """Yield a download as it is now and after every change, to its end; again when nothing changes for a while."""
        run = self._runs.get(download_id)
        while True:
            changed, view = run.changed, run.view
            yield view
            if view.state in FINAL:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    await changed.wait()

    async def close(self) -> None:
        """End the processes; what has come stays, and the next process goes on."""
        running = [run.task for run in self._runs.all() if run.task is not None and not run.task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _start(self, run: Run) -> None:
        run.task = self._tasks.create_task(self._live(run), name=f"download-{run.view.download_id}")
        self._show(run, run.view)

    async def _prepare(self, run: Run, request: DownloadModel) -> bool:
        """Write a download down, if there is room for it; tell whether there is anything to fetch."""
        if await self._library.whole(str(run.ref)):
            await self._discard(run, whole=True)
            return False
        if isinstance(request.size_bytes, int):
            await self._room(run, request.size_bytes)
        await self._note(run)
        return True

    async def _live(self, run: Run) -> None:
        """Carry a download to its end, however often that takes."""
        try:
            while True:
                before = run.view.bytes_done
                try:
                    async with self._places:
                        with passing_trouble():
                            await self._attempt(run)
                except LlorchError as error:
                    run.failures = pace.failures(run.failures, error, brought=run.view.bytes_done > before)
                    if not await self._later(run, error):
                        await self._fail(run, error)
                        return
                else:
                    await self._discard(run, whole=True)
                    self._end(run, "complete")
                    return
        except asyncio.CancelledError:
            if not run.unwanted:
                raise
            await self._discard(run)
            self._end(run, "cancelled")

    async def _attempt(self, run: Run) -> None:
        self._show(run, progress.looking(run.view))
        await self._library.clear(run.ref)
        if run.record.before is None:
            run.record = run.record.begun(await self._library.placed(run.ref))
            await self._note(run)
        order = Order(
            model_ref=str(run.ref),
            folder=str(self._library.folder),
            partial=str(self._partial(run)),
            sources=run.record.sources,
            token=self._token,
            files=run.record.files,
        )
        proven = await transfer(
            order, agree=lambda found: self._agree(run, found), heard=lambda report: self._heard(run, report)
        )
        await self._library.added(str(run.ref), proven)
        await self._library.inspect(str(run.ref))  # whole as it is, it may be no model: whoever asked is told so

    async def _agree(self, run: Run, found: list[FileFacts]) -> None:
        """Make sure that there is room for what was found, and remember what that was."""
        total = sum(file.size_bytes for file in found)
        await self._room(run, total)
        if run.record.files != found:
            run.record = replace(run.record, files=found)
            await self._note(run)
        done = await asyncio.to_thread(files.size_below, self._partial(run))
        self._show(run, progress.found(run.view, total, done))

    async def _room(self, run: Run, total_bytes: int) -> None:
        promised = self._runs.promised_bytes(beside=run)
        plan = await self._library.plan(run.ref, total_bytes, promised_bytes=promised, evict=run.record.evict)
        await self._library.evict(plan)

    async def _rehearse(self, ref: HubRef, request: DownloadModel) -> Started:
        if not isinstance(request.size_bytes, int):
            raise invalid([FieldProblem("size_bytes", "required for a dry run")])
        promised = self._runs.promised_bytes()
        plan: list[Evicted] = []
        if not await self._library.whole(str(ref)):
            plan = await self._library.plan(ref, request.size_bytes, promised_bytes=promised, evict=True)
        key = models.model_id(str(ref))
        return Started(download_id=key, state="planned", events_url=progress.events(key), evict=plan)

    def _heard(self, run: Run, report: Report) -> None:
        self._show(run, progress.heard(run.view, report, run.pace, now_s=time.monotonic()))

    async def _later(self, run: Run, error: LlorchError) -> bool:
        """Wait until it is time to try again; False when it is not worth it."""
        if not error.retriable or isinstance(error, DiskFull):
            return False
        wait_s = self._patience.wait_s(run.failures, retry_after_s=error.retry_after_s, chance=random.random())
        if wait_s is None:
            return False
        _log.warning("download_waits", model_ref=str(run.ref), code=error.code, reason=error.message, wait_s=wait_s)
        until_ms = self._clock_ms() + round(wait_s * 1000)
        self._show(run, progress.waiting(run.view, error, until_ms=until_ms))
        await asyncio.sleep(wait_s)
        return True

    async def _fail(self, run: Run, error: LlorchError) -> None:
        """End a download that is not tried again. What it has put in place stays, where that may go on."""
        own = run.record.own(await self._library.placed(run.ref)) if may_go_on(error) else set()
        if own:
            run.record = run.record.kept(own, progress.ended(run.view, "failed", error))
            await asyncio.to_thread(partial.empty, self._partial(run))
            with contextlib.suppress(LlorchError):  # then the next process goes on without being asked
                await self._note(run)
        else:
            await self._discard(run)
        self._end(run, "failed", error)

    async def _discard(self, run: Run, *, whole: bool = False) -> None:
        """Delete what an ended download leaves, and what it brought of a model not *whole*, if the disk lets it go."""
        if not whole:
            try:
                names = run.record.own(await self._library.placed(run.ref))
                if names or run.record.before is not None:
                    await self._library.abandon(run.ref, names)
            except OSError as error:
                _log.warning("download_stays", model_ref=str(run.ref), reason=str(error))
        await asyncio.to_thread(partial.empty, self._partial(run))
        await asyncio.to_thread(self._ledger.remove, run.view.download_id)
        run.record = replace(run.record, before=None, brought=[])

    def _end(
        self, run: Run, state: Literal["complete", "failed", "cancelled"], error: LlorchError | None = None
    ) -> None:
        self._metrics.downloads.labels(state).inc()
        told = {"code": error.code, "reason": error.message} if error else {}
        _log.info(f"download_{state}", model_ref=str(run.ref), size_bytes=run.view.bytes_done, **told)
        self._show(run, progress.ended(run.view, state, error))

    def _show(self, run: Run, view: Download) -> None:
        told = run.view.state
        run.view = view
        run.changed.set()
        run.changed = asyncio.Event()
        now = time.monotonic()
        if view.state != told or now - self._told_at >= TELL_S:
            self._told_at = now
            self._changed()

    async def _note(self, run: Run) -> None:
        await asyncio.to_thread(self._ledger.write, run.view.download_id, run.record)

    def _partial(self, run: Run) -> Path:
        return self._library.folder / PARTIAL / run.view.download_id
