"""The process that fetches one model: asks what is right, transfers, checks, and puts files in place. One per download.

It is a process so that a cancelled download ends at once, whatever its client is waiting for, and so that nothing of it
can block the pool. It reads its order as one line of JSON from stdin, tells on stdout what files there are, waits for a
second line that tells it to go on, and then reports progress; the end of stdin, which the end of the pool brings, ends
it. huggingface_hub transfers; its own resumption ends with its process, so partial files and their names are ours.

Strategy: a partial file only ever grows at its end, belongs to one commit's file, and is locked by the one process
that writes it. It is read back and hashed before a rename makes it the model, so what is in place is right.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

import msgspec

from llorch import checkpoint_files, hub, models
from llorch.client import Client
from llorch.errors import (
    DiskFull,
    InvalidRequest,
    LlorchError,
    ModelInvalid,
    ModelNotFound,
    PeerError,
    RemoteError,
)
from llorch.models import FileRef, HubRef
from llorch.wire.models import FileFacts, StoredModel
from roles.pool.model_cache import files
from roles.pool.model_cache.checkpoint import check_architecture
from roles.pool.model_cache.partial import Partial, TooLong, disk_errors, locked, sync

COMMAND = "__fetch"
HUB = "hub"
CHUNK_BYTES = 256 * 1024
REPORT_S = 0.2
PEER_TIMEOUT_S = 5.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to fetch: a pinned reference, into *folder*, by way of *partial*; *files* where they are known already."""

    model_ref: str
    folder: str
    partial: str
    sources: list[str]
    token: str = ""
    files: list[FileFacts] = msgspec.field(default_factory=list)


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of what happens. `files` comes once, before anything is transferred; `done` or `failed` is the last."""

    kind: Literal["files", "progress", "verifying", "done", "failed"]
    files: list[FileFacts] = msgspec.field(default_factory=list)
    bytes_done: int = 0
    source: str = ""
    code: str = ""
    message: str = ""
    retriable: bool = False
    retry_after_s: int | None = None
    details: dict[str, object] = msgspec.field(default_factory=dict)


Tell = Callable[[Report], None]


def wanted(model_ref: str) -> HubRef:
    """Return the reference that a model is fetched by: that of its first part.

    Raises:
        InvalidRequest: It does not name a commit and a file.
    """
    ref = models.parse_ref(model_ref)
    if isinstance(ref, HubRef) and ref.pinned:
        return HubRef(ref.repo, ref.revision, models.parts(ref.path)[0])
    if not isinstance(ref, HubRef):
        where = "a file is used where it lies" if isinstance(ref, FileRef) else "its server has it"
        raise InvalidRequest(f"{model_ref} needs no download: {where}")
    problem = "expected hf:org/repo@commit::file=path, with a commit of 40 hexadecimal digits"
    raise InvalidRequest(
        f"the request is not valid: model_ref: {problem}; llorch pool models download takes shorter names",
        details={"fields": [{"field": "model_ref", "problem": problem}]},
    )


def are_its(ref: HubRef, told: list[FileFacts]) -> bool:
    """Tell whether those are a model's files, in order, and nothing else: a pool may say anything. Pure."""
    try:
        return hub.needed(ref.path, hub.RepoFacts(ref.repo, ref.revision, tuple(told))) == told
    except LlorchError:
        return False


def main() -> int:
    """Fetch what the order on stdin says; return the exit status."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    go = threading.Event()
    threading.Thread(target=_watch, args=(go,), daemon=True).start()
    try:
        fetch(order, _tell, go.wait)
    except LlorchError as error:
        failed = Report(
            kind="failed",
            code=error.code,
            message=error.message,
            retriable=error.retriable and not isinstance(error, DiskFull),
            retry_after_s=error.retry_after_s,
            details=dict(error.details or {}),
        )
        _tell(failed)
        return 1
    return 0


def fetch(order: Order, tell: Tell, agreed: Callable[[], object]) -> None:
    """Fetch a model; *agreed* returns when what `files` told is agreed to.

    Raises:
        LlorchError: Why it could not be done.
    """
    ref = models.parse_ref(order.model_ref)
    if not isinstance(ref, HubRef):
        raise ModelNotFound(f"{order.model_ref} is not on a hub")
    partial = Path(order.partial)
    with disk_errors(), locked(partial):
        wanted = order.files or _look(ref, order)
        tell(Report(kind="files", files=wanted))
        agreed()
        proven = _Fetch(ref, order, wanted, tell).run()
    tell(Report(kind="done", files=proven))


class _Fetch:
    """One run through the files of a model."""

    def __init__(self, ref: HubRef, order: Order, wanted: list[FileFacts], tell: Tell) -> None:
        self._ref = ref
        self._order = order
        self._wanted = wanted
        self._tell = tell
        self._before = 0  # bytes of the files that are in place, and of the one that was fetched ahead
        self._ahead: FileFacts | None = None
        self._told_at = 0.0
        self._told_source = ""

    def run(self) -> list[FileFacts]:
        """Put every file in place, the first one last: the model is there when it is. Return what was proven."""
        if checkpoint_files.names_one(self._ref.path):
            self._look_ahead()
        proven = [self._one(number, file) for number, file in reversed(list(enumerate(self._wanted)))]
        return proven[::-1]

    def _look_ahead(self) -> None:
        """Fetch a checkpoint's config.json before its weights, which are large, and may be for no engine of ours."""
        file = self._wanted[0]
        config = files.place(Path(self._order.folder), self._ref, file.path)
        if not config.is_file() or config.stat().st_size != file.size_bytes:
            config = Path(self._order.partial) / "0"
            self._ahead = self._transfer(0, file, config)
            self._before += file.size_bytes
        check_architecture(config)

    def _one(self, number: int, file: FileFacts) -> FileFacts:
        final = files.place(Path(self._order.folder), self._ref, file.path)
        if not final.is_file() or final.stat().st_size != file.size_bytes:
            partial = Path(self._order.partial) / str(number)
            ahead = self._ahead if number == 0 else None
            file = ahead or self._transfer(number, file, partial)
            final.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(final)
            sync(final.parent)
        if number or self._ahead is None:
            self._before += file.size_bytes
        self._progress("", 0, at_once=True)
        return file

    def _transfer(self, number: int, file: FileFacts, partial: Path) -> FileFacts:
        sources = [*self._order.sources, HUB]
        while True:
            source = sources[0]
            resumed = partial.exists() and 0 < partial.stat().st_size <= file.size_bytes
            try:
                with Partial(partial, file.size_bytes, functools.partial(self._progress, source)) as out:
                    if out.tell() == file.size_bytes:
                        pass  # it had come whole, and nobody has more of it to send
                    elif source == HUB:
                        _from_hub(self._ref, file, out)
                    else:
                        asyncio.run(_from_peer(source, self._order, number, out))
                    out.finish()
            except TooLong:
                pass  # it is not taken to its end, if it has one; its length is not right
            except (PeerError, RemoteError):
                if source == HUB:
                    raise
                sources.pop(0)
                continue
            found = self._hash(partial)
            size = partial.stat().st_size
            if size == file.size_bytes and file.sha256 in {"", found}:
                return msgspec.structs.replace(file, sha256=found)
            partial.unlink()
            if resumed:
                continue  # from nothing, once: a machine that lost power may have left a hole
            if source != HUB:
                sources.pop(0)
                continue
            raise ModelInvalid(
                f"{file.path} came with another hash than the hub tells: expected sha256 {file.sha256}, got {found}; "
                "what came was deleted"
                if size == file.size_bytes
                else f"{file.path} came with {size} bytes instead of {file.size_bytes}; what came was deleted"
            )

    def _hash(self, partial: Path) -> str:
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            self._progress("", done, kind="verifying")

        return files.sha256_of(partial, count)

    def _progress(
        self,
        source: str,
        done: int,
        *,
        kind: Literal["progress", "verifying"] = "progress",
        at_once: bool = False,
    ) -> None:
        now = time.monotonic()
        fresh = source not in {"", self._told_source}
        if at_once or fresh or now - self._told_at >= REPORT_S:
            self._told_at = now
            self._told_source = source or self._told_source
            self._tell(Report(kind=kind, bytes_done=self._before + done, source=source))


def _look(ref: HubRef, order: Order) -> list[FileFacts]:
    """Return what is right, from a pool that has the model, else from the hub."""
    for source in order.sources:
        with contextlib.suppress(LlorchError):
            stored = asyncio.run(_peer_facts(source, order))
            if not stored.corrupt and all(file.sha256 for file in stored.files) and are_its(ref, stored.files):
                return stored.files
    return hub.needed(ref.path, hub.look(ref.repo, ref.revision))


async def _peer_facts(source: str, order: Order) -> StoredModel:
    path = f"/v2/models/{models.model_id(order.model_ref)}"
    async with Client(source, token=order.token, what="the pool") as client:
        return await client.send("GET", path, StoredModel, timeout_s=PEER_TIMEOUT_S)


async def _from_peer(source: str, order: Order, number: int, out: Partial) -> None:
    path = f"/v2/models/{models.model_id(order.model_ref)}/file"
    start = out.tell()
    async with (
        Client(source, token=order.token, what="the pool") as client,
        contextlib.aclosing(client.file(path, start=start, params={"part": str(number)})) as pieces,
    ):
        async for position, data in pieces:
            if position != out.tell():
                out.restart()
            out.write(data)


def _from_hub(ref: HubRef, file: FileFacts, out: Partial) -> None:
    with hub.translated(f"hf:{ref.repo}"):
        from huggingface_hub import constants
        from huggingface_hub.file_download import get_hf_file_metadata, hf_hub_url, http_get
        from huggingface_hub.utils._headers import build_hf_headers

        constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES  # what a cut can lose, at most
        url = hf_hub_url(ref.repo, file.path, revision=ref.revision, endpoint=hub.endpoint())
        there = get_hf_file_metadata(url, endpoint=hub.endpoint())
        headers = build_hf_headers()
        if urlsplit(there.location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # a signed address of a store, which is not to see the token
        http_get(
            there.location,
            cast("io.BufferedWriter", out),
            resume_size=out.tell(),
            headers=headers,
            expected_size=file.size_bytes,
        )


def _watch(go: threading.Event) -> None:
    """Let it go on when told to; end the process when the pool is gone or has changed its mind."""
    if sys.stdin.buffer.readline():
        go.set()
        sys.stdin.buffer.read()
    os._exit(1)


def _tell(report: Report) -> None:
    try:
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os._exit(1)
