"""Files and batches as clients see them: taken in, looked up, cancelled, and deleted when their time has come."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from llorch.errors import BodyTooLarge, Conflict, InvalidRequest, NotFound
from llorch.wire.batches import (
    Batch,
    BatchCounts,
    BatchList,
    BatchProblems,
    BatchStatus,
    CreateBatch,
    FileList,
    FileObject,
)
from llorch.wire.codec import FieldProblem, encode, invalid
from roles.orchestrator.batches import folder as disk
from roles.orchestrator.batches.folder import Folder
from roles.orchestrator.batches.runner import Runner
from roles.orchestrator.clock import ClockMs
from roles.orchestrator.state.batches import BatchRow, BatchTables, FileRow

MAX_FILE_BYTES = 200 * 1024 * 1024
WINDOW_MS = 24 * 3_600_000


class Registry:
    """What the API calls about files and batches.

    Args:
        tables: Files and batches in the database.
        folder: The files on disk.
        runner: Is told when there is something to do.
        clock_ms: The time.
        retention_ms: How long a file is kept.
    """

    def __init__(
        self, tables: BatchTables, folder: Folder, *, runner: Runner, clock_ms: ClockMs, retention_ms: int
    ) -> None:
        self._tables = tables
        self._folder = folder
        self._runner = runner
        self._clock_ms = clock_ms
        self._retention_ms = retention_ms

    async def tidy(self) -> None:
        """Make the folder, and delete what a crash left in it; before anything else is done."""
        await asyncio.to_thread(self._folder.open)
        await asyncio.to_thread(self._folder.tidy, await self._tables.names())

    async def receive(self, chunks: AsyncIterator[bytes], filename: str) -> FileRow:
        """Take in a file; nobody sees it before it is added.

        Raises:
            BodyTooLarge: More than `MAX_FILE_BYTES`.
            BusyError: The disk is full or read-only.
        """
        file_id = f"file-{uuid.uuid4().hex}"
        file = await asyncio.to_thread(self._folder.create, file_id)
        size, kept = 0, False
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > MAX_FILE_BYTES:
                    raise BodyTooLarge(
                        f"the file is larger than {MAX_FILE_BYTES} bytes", details={"limit_bytes": MAX_FILE_BYTES}
                    )
                await asyncio.to_thread(disk.write, file, chunk)
            await asyncio.to_thread(self._folder.keep, file_id, file)
            kept = True
        finally:
            if not kept:
                await asyncio.to_thread(self._folder.drop, file_id, file)
        now_ms = self._clock_ms()
        return FileRow(
            id=file_id, filename=filename, purpose="batch", bytes=size, created_ms=now_ms, kept_from_ms=now_ms
        )

    async def add(self, row: FileRow) -> FileObject:
        """Let a file that was received be seen."""
        await self._tables.add_file(row)
        return self._file(row)

    async def discard(self, row: FileRow) -> None:
        """Forget a file that was received in vain."""
        await asyncio.to_thread(self._folder.remove, row.id)

    async def file(self, file_id: str) -> FileObject:
        """Return a file.

        Raises:
            NotFound: There is none with that id.
        """
        return self._file(await self._known(file_id))

    async def content(self, file_id: str) -> Path:
        """Return where a file's content is; raises as `file` does."""
        return self._folder.file((await self._known(file_id)).id)

    async def files(self, *, after: str | None, purpose: str | None, limit: int, newest: bool) -> FileList:
        """Return a page of files."""
        rows = await self._tables.files(after=after, purpose=purpose, limit=limit + 1, newest=newest)
        data = [self._file(row) for row in rows[:limit]]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return FileList(data=data, has_more=len(rows) > limit, first_id=ends[0], last_id=ends[1])

    async def delete(self, file_id: str) -> None:
        """Delete a file; raises as `file` does.

        Raises:
            Conflict: A batch that has not ended needs it.
        """
        await self._known(file_id)
        if not await self._tables.forget_file(file_id):
            raise Conflict("a batch that has not ended needs this file; cancel it first")
        await asyncio.to_thread(self._folder.remove, file_id)

    async def create(self, wanted: CreateBatch, *, owner: str, correlation_id: str) -> Batch:
        """Take in a batch; it is on disk when this returns.

        Raises:
            InvalidRequest: Its input is no file that was uploaded for batches.
        """
        source = await self._tables.file(wanted.input_file_id)
        if source is None or source.purpose != "batch":
            raise invalid([FieldProblem("input_file_id", "there is no such file with purpose batch")])
        now_ms = self._clock_ms()
        row = BatchRow(
            seq=0,
            id=f"batch_{uuid.uuid4().hex}",
            status="validating",
            endpoint=wanted.endpoint,
            input_file_id=wanted.input_file_id,
            metadata=None if wanted.metadata is None else encode(wanted.metadata).decode(),
            owner=owner,
            correlation_id=correlation_id,
            created_ms=now_ms,
            expires_ms=now_ms + WINDOW_MS,
            in_progress_ms=None,
            finalizing_ms=None,
            cancelling_ms=None,
            ended_ms=None,
            total=0,
            completed=0,
            failed=0,
            errors=None,
            output_file_id=None,
            error_file_id=None,
        )
        if not await self._tables.add_batch(row):
            raise InvalidRequest("the input file has just been deleted; upload it again")
        self._runner.wake()
        return shown(row)

    async def batch(self, batch_id: str) -> Batch:
        """Return a batch.

        Raises:
            NotFound: There is none with that id.
        """
        row = await self._tables.batch(batch_id)
        if row is None:
            raise NotFound("there is no such batch, or it was purged")
        return shown(row)

    async def batches(self, *, after: str | None, limit: int) -> BatchList:
        """Return a page of batches, newest first."""
        rows = await self._tables.batches(after=after, limit=limit + 1)
        data = [shown(row) for row in rows[:limit]]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return BatchList(data=data, has_more=len(rows) > limit, first_id=ends[0], last_id=ends[1])

    async def cancel(self, batch_id: str) -> Batch:
        """Begin to cancel a batch; one that is about to end, or has, stays as it is; raises as `batch` does."""
        await self._tables.cancel(batch_id, now_ms=self._clock_ms())
        self._runner.wake()
        return await self.batch(batch_id)

    async def clean(self, *, purge_after_ms: int) -> None:
        """Delete the files that have been kept long enough, and forget batches that ended long ago."""
        now_ms = self._clock_ms()
        for row in await self._tables.stale(before_ms=now_ms - self._retention_ms):
            if await self._tables.forget_file(row.id):
                await asyncio.to_thread(self._folder.remove, row.id)
        await self._tables.forget_lines()
        await self._tables.purge(ended_before_ms=now_ms - purge_after_ms)

    async def _known(self, file_id: str) -> FileRow:
        row = await self._tables.file(file_id)
        if row is None:
            raise NotFound("there is no such file, or it is not kept any more")
        return row

    def _file(self, row: FileRow) -> FileObject:
        return FileObject(
            id=row.id,
            bytes=row.bytes,
            created_at=row.created_ms // 1000,
            expires_at=(row.kept_from_ms + self._retention_ms) // 1000,
            filename=row.filename,
            purpose=row.purpose,
        )


def shown(row: BatchRow) -> Batch:
    """Return a batch as clients see it. Pure."""

    def ended(status: BatchStatus) -> int | None:
        return row.ended_ms // 1000 if row.status == status and row.ended_ms is not None else None

    return Batch(
        id=row.id,
        endpoint=row.endpoint,
        input_file_id=row.input_file_id,
        status=row.status,
        created_at=row.created_ms // 1000,
        expires_at=row.expires_ms // 1000,
        request_counts=BatchCounts(total=row.total, completed=row.completed, failed=row.failed),
        errors=None if row.errors is None else msgspec.json.decode(row.errors, type=BatchProblems),
        output_file_id=row.output_file_id,
        error_file_id=row.error_file_id,
        in_progress_at=_s(row.in_progress_ms),
        finalizing_at=_s(row.finalizing_ms),
        completed_at=ended("completed"),
        failed_at=ended("failed"),
        expired_at=ended("expired"),
        cancelling_at=_s(row.cancelling_ms),
        cancelled_at=ended("cancelled"),
        metadata=None if row.metadata is None else msgspec.json.decode(row.metadata, type=dict[str, str]),
    )


def _s(time_ms: int | None) -> int | None:
    return None if time_ms is None else time_ms // 1000
