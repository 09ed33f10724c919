"""The models of this host as others see them: listed, checked, deleted, registered, and room made for new ones.

The one owner of model records. What blocks happens in threads; what changes a record happens here, between two awaits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from msgspec import UNSET
from msgspec.structs import replace

from llorch import log, models
from llorch.errors import CallerError, Conflict, LlorchError, ModelInvalid, ModelNotFound
from llorch.models import FileRef, HubRef
from llorch.wire.models import (
    Deleted,
    DiskUsage,
    Evicted,
    FileFacts,
    StoredModel,
    Unregistered,
    Verified,
)
from llorch.wire.pools import Disk, Model
from roles.pool.model_cache import files, room
from roles.pool.model_cache.catalogue import Catalogue, Entry, ModelFile
from roles.pool.model_cache.file_facts import facts_of
from roles.pool.model_cache.gguf import Tokens
from roles.pool.model_cache.hashing import Hashing
from roles.pool.model_cache.ledger import Ledger, ModelRecord
from roles.pool.model_cache.partial import disk_errors

PARTIAL = ".partial"
_log = log.get("pool.library")


class Library:
    """Model files and what is known of them.

    Args:
        catalogue: Finds and reads the files.
        ledger: Where records are kept.
        in_use: The references that living workers serve.
        budget_bytes: What downloads may take together; 0 is no limit but the disk's.
        changed: Called when the orchestrator should hear of something at once.
        clock_ms: Unix milliseconds.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        ledger: Ledger[ModelRecord],
        *,
        in_use: Callable[[], Collection[str]],
        budget_bytes: int,
        changed: Callable[[], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._in_use = in_use
        self._budget_bytes = budget_bytes
        self._changed = changed
        self._clock_ms = clock_ms
        self._records: dict[str, ModelRecord] = {}
        self._held: Counter[str] = Counter()
        self._keeping = asyncio.Lock()
        self._hashing = Hashing()
        self.folder = catalogue.models_dir

    async def open(self) -> None:
        """Read the records."""
        self._records = await asyncio.to_thread(self._ledger.read)

    def close(self) -> None:
        """Leave the verifications that have not ended."""
        self._hashing.close()

    async def models(self) -> list[Model]:
        """Return the models that can be used."""
        return await asyncio.to_thread(self._catalogue.models, dict(self._records))

    async def disk(self) -> Disk:
        """Return how full the disk of the models is."""
        return await asyncio.to_thread(self._catalogue.disk)

    async def inspect(self, ref: str) -> ModelFile:
        """Return a model that a worker is to load; raises as `Catalogue.inspect` does, and for a corrupt one."""
        record = self._records.get(models.model_id(ref))
        if record is not None and record.corrupt:
            raise ModelInvalid(f"{ref} failed its last verification; delete it, or download it again")
        return await asyncio.to_thread(self._catalogue.inspect, ref)

    async def tokens(self, file: ModelFile) -> Tokens:
        """Return the vocabulary of a model that `inspect` has found."""
        return await asyncio.to_thread(self._catalogue.tokens, file.path)

    @contextlib.contextmanager
    def holding(self, *refs: str) -> Iterator[None]:
        """Keep models from being deleted while a worker for them is being started."""
        self._held.update(refs)
        try:
            yield
        finally:
            self._held.subtract(refs)

    async def used(self, ref: str) -> None:
        """Take note that a model is used now."""
        key = models.model_id(ref)
        record = self._records.get(key, ModelRecord(model_ref=ref))
        with contextlib.suppress(LlorchError):  # a full disk is no reason not to start a worker
            await self._put(key, replace(record, last_used_ms=self._clock_ms()))

    async def stored(self) -> list[StoredModel]:
        """Return every model on the disk, by reference, those that cannot be used too."""
        entries = await asyncio.to_thread(self._catalogue.entries, dict(self._records))
        return [self._stored(entry) for entry in entries]

    async def model(self, model_id: str) -> StoredModel:
        """Return one model.

        Raises:
            ModelNotFound: None with that id is on this host.
        """
        return self._stored(await self._entry(model_id))

    async def file(self, model_id: str, part: int) -> Path:
        """Return one file of a model that can be used; raises as `model` does."""
        entry = await self._entry(model_id)
        record = self._records.get(model_id)
        if entry.model(record, {}) is None or not 0 <= part < len(entry.paths):
            raise ModelNotFound("the model is not whole, or has no such part")
        return entry.paths[part]

    async def delete(self, model_id: str) -> Deleted:
        """Delete a downloaded model.

        Raises:
            ModelNotFound: None with that id is on this host.
            Conflict: A worker uses it; or it did not come from the hub, then it is not ours to delete; or the disk
                does not let it go.
        """
        entry = await self._entry(model_id)
        if entry.origin != "hub":
            why = {
                "builtin": "it is part of llorch",
                "registered": "it is a file of your own; use unregister to list it no longer",
                "file": "it is a file of your own; remove it by hand",
            }[entry.origin]
            raise Conflict(f"{entry.ref} is not deleted: {why}")
        if self._busy(entry.ref):
            raise Conflict(f"{entry.ref} is not deleted: a worker uses it; stop that first")
        with disk_errors():
            freed = await asyncio.to_thread(files.remove, entry.paths, self.folder)
        await self._forget(model_id)
        _log.info("model_deleted", model_ref=entry.ref, freed_bytes=freed)
        self._changed()
        return Deleted(model_id=model_id, model_ref=entry.ref, freed_bytes=freed)

    async def verify(self, model_id: str) -> Verified:
        """Read a model's files anew and compare their hashes with what they must be.

        A hash that nobody has told is noted, and is what the next verification compares with. A model that is not
        sound is not listed any more. One model is read at a time; whoever asks for the same one waits for that.

        Raises:
            ModelNotFound: None with that id is on this host.
            Draining: The pool ends meanwhile.
        """
        entry = await self._entry(model_id)
        facts = facts_of(entry, self._records.get(model_id))
        checks = await self._hashing.checks(entry.paths, facts)
        ok = all(check.ok for check in checks) and entry.metadata is not None
        now_ms = self._clock_ms()
        record = self._records.get(model_id, ModelRecord(model_ref=entry.ref, added_ms=entry.modified_ms))
        if ok:
            facts = [replace(fact, sha256=check.sha256) for fact, check in zip(facts, checks, strict=True)]
        await self._put(model_id, replace(record, files=facts, verified_ms=now_ms, corrupt=not ok))
        if not ok:
            _log.error("model_corrupt", model_ref=entry.ref, files=[check.path for check in checks if not check.ok])
        self._changed()
        return Verified(model_id=model_id, model_ref=entry.ref, ok=ok, files=checks)

    async def register(self, ref: str) -> StoredModel:
        """List a model file of the user's own, wherever it is.

        Raises:
            InvalidRequest: Not `file:` and an absolute path.
            CallerError: No file is there, or it is no sound model.
        """
        parsed = models.parse_ref(ref)
        if not isinstance(parsed, FileRef) or parsed.builtin is not None:
            raise Conflict("only a file of this host can be registered; use download for models of the hub")
        await asyncio.to_thread(self._catalogue.inspect, ref)
        key = models.model_id(ref)
        record = self._records.get(key, ModelRecord(model_ref=ref, added_ms=self._clock_ms()))
        await self._put(key, replace(record, registered=True))
        self._changed()
        return await self.model(key)

    async def unregister(self, ref: str) -> Unregistered:
        """List a registered file no longer; the file stays as it is.

        Raises:
            ModelNotFound: It is not registered.
        """
        key = models.model_id(ref)
        record = self._records.get(key)
        if record is None or not record.registered:
            raise ModelNotFound(f"{ref} is not registered")
        await self._forget(key)
        self._changed()
        return Unregistered(model_id=key, model_ref=ref)

    async def pin(self, model_id: str, *, pinned: bool) -> StoredModel:
        """Keep a model when room is needed, or not any more; raises as `model` does."""
        entry = await self._entry(model_id)
        record = self._records.get(model_id, ModelRecord(model_ref=entry.ref, added_ms=entry.modified_ms))
        await self._put(model_id, replace(record, pinned=pinned))
        return self._stored(entry)

    async def usage(self) -> DiskUsage:
        """Return what takes the space."""
        stored, disk = await self.stored(), await self.disk()
        partial = await asyncio.to_thread(files.size_below, self.folder / PARTIAL)
        return DiskUsage(
            total_bytes=disk.total_bytes,
            free_bytes=disk.free_bytes,
            models_bytes=sum(model.size_bytes for model in stored if model.origin == "hub"),
            partial_bytes=partial,
            budget_bytes=self._budget_bytes,
            models=stored,
        )

    async def plan(self, ref: HubRef, total_bytes: int, *, promised_bytes: int, evict: bool) -> list[Evicted]:
        """Return which models would have to go for a download; none when there is room.

        Raises:
            DiskFull: No room, and none can be made, or not without *evict*.
        """
        usage = await self.usage()
        here = self.folder / PARTIAL / models.model_id(str(ref))
        had = await asyncio.to_thread(files.size_below, here)
        space = room.Space(
            total_bytes=usage.total_bytes,
            free_bytes=usage.free_bytes,
            models_bytes=usage.models_bytes + usage.partial_bytes,
            promised_bytes=promised_bytes,
            budget_bytes=self._budget_bytes,
        )
        had += sum(map(files.size, await asyncio.to_thread(files.placed, self.folder, ref)))
        return room.make(space, usage.models, max(0, total_bytes - had), evict=evict)

    async def evict(self, plan: list[Evicted]) -> None:
        """Carry out a plan; a model that a worker has begun to use since stays."""
        for victim in plan:
            with contextlib.suppress(CallerError):
                await self.delete(victim.model_id)
                _log.info("model_evicted", model_ref=victim.model_ref, freed_bytes=victim.size_bytes)

    async def whole(self, ref: str) -> bool:
        """Tell whether a model is here and can be used."""
        return any(model.model_ref == ref for model in await self.models())

    async def clear(self, ref: HubRef) -> None:
        """Remove what is left of a model that is known to be corrupt, so that it can be fetched again."""
        key = models.model_id(str(ref))
        record = self._records.get(key)
        if record is not None and record.corrupt:
            paths = await asyncio.to_thread(files.placed, self.folder, ref)
            with disk_errors():
                await asyncio.to_thread(files.remove, tuple(paths), self.folder)
            await self._forget(key)

    async def placed(self, ref: HubRef) -> list[str]:
        """Return the names of a model's files that are in its folder, whether all of them are or not."""
        return [path.name for path in await asyncio.to_thread(files.placed, self.folder, ref)]

    async def abandon(self, ref: HubRef, names: Collection[str]) -> None:
        """Delete and forget what a download brought, those *names*, of a model that is not whole; not links."""
        if not await self.whole(str(ref)):
            paths = await asyncio.to_thread(files.placed, self.folder, ref)
            own = tuple(path for path in paths if path.name in names and not path.is_symlink())
            await asyncio.to_thread(files.remove, own, self.folder)
            await self._forget(models.model_id(str(ref)))

    async def added(self, ref: str, files: list[FileFacts]) -> None:
        """Take note of a model whose files have just been proven and put in place."""
        key, now_ms = models.model_id(ref), self._clock_ms()
        record = self._records.get(key, ModelRecord(model_ref=ref))
        await self._put(key, replace(record, files=files, added_ms=now_ms, verified_ms=now_ms, corrupt=False))
        self._changed()

    def _busy(self, ref: str) -> bool:
        return self._held[ref] > 0 or ref in self._in_use()

    def _stored(self, entry: Entry) -> StoredModel:
        key = models.model_id(entry.ref)
        record = self._records.get(key, ModelRecord(model_ref=entry.ref))
        metadata = entry.metadata
        return StoredModel(
            model_id=key,
            model_ref=entry.ref,
            origin=entry.origin,
            size_bytes=entry.size_bytes,
            files=facts_of(entry, record),
            aliases=models.aliases_of(entry.ref, self._catalogue.aliases),
            architecture=metadata.architecture if metadata else "",
            quantization=metadata.quantization if metadata else "",
            context_length=metadata.context_length if metadata else 0,
            parameters=metadata.parameters if metadata else UNSET,
            pinned=record.pinned,
            in_use=self._busy(entry.ref),
            added_ms=record.added_ms or entry.modified_ms,
            last_used_ms=record.last_used_ms,
            verified_ms=record.verified_ms or UNSET,
            corrupt=record.corrupt or metadata is None,
        )

    async def _entry(self, model_id: str) -> Entry:
        entries = await asyncio.to_thread(self._catalogue.entries, dict(self._records))
        found = next((entry for entry in entries if models.model_id(entry.ref) == model_id), None)
        if found is None:
            raise ModelNotFound("no model with that id is on this host; GET /v2/models lists those that are")
        return found

    async def _put(self, key: str, record: ModelRecord) -> None:
        self._records[key] = record
        await self._keep(key)

    async def _forget(self, key: str) -> None:
        self._records.pop(key, None)
        await self._keep(key)

    async def _keep(self, key: str) -> None:
        """Have on the disk what is known of a model now; one after the other, or an older record may be the last."""
        async with self._keeping:
            if (record := self._records.get(key)) is not None:
                await asyncio.to_thread(self._ledger.write, key, record)
            else:
                await asyncio.to_thread(self._ledger.remove, key)
