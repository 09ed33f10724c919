"""What a worker has computed of its last prompts, kept in files while another model has its memory.

llama.cpp writes and reads the KV cache of one slot at a time. A file holds the tokens of a prompt and an answer, too,
so it is for its owner alone. Its name begins with the mark of all that it depends on: the model file, the engine, and
how the two were set up; a file with another mark is of no use and goes. It ends with the CRC-32 of the contents, for
llama.cpp crashes on some that are cut off. A file gets its name when all of it is there, and loses it before it is
read: two workers never have the same one, and one that cannot be read is not tried twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from llorch import errors, log
from roles.worker.backend.llamacpp_http import EngineHttp

LEAST_TOKENS = 256
"""Fewer are computed again as fast as they are read."""
KEEP_S = 86_400.0
SAVE_S = 15.0
SUFFIX, PART, TAKEN = ".kv", ".part", ".taken"
BLOCK_BYTES = 1 << 22

_log = log.get("worker.snapshots")


class Slot(msgspec.Struct, frozen=True):
    """What llama.cpp tells of a slot; `id_task` grows from request to request."""

    id: int
    is_processing: bool = False
    id_task: int = -1
    n_prompt_tokens: int = 0


class Kept(NamedTuple):
    """One file."""

    path: Path
    size_bytes: int
    saved_s: float


class _Saved(msgspec.Struct, frozen=True):
    n_saved: int = 0
    n_written: int = 0


class _Restored(msgspec.Struct, frozen=True):
    n_restored: int = 0


def mark(files: Iterable[str], setup: Mapping[str, object]) -> str:
    """Return what marks the snapshots that a worker can use.

    Args:
        files: The model's and its adapters'; another one in its place has another size or time.
        setup: The engine's build and every option that changes what is in a cache.
    """
    found = [(path, os.stat(path)) for path in files]  # noqa: PTH116 - paths as the engine has them
    told = json.dumps([[(path, s.st_size, s.st_mtime_ns) for path, s in found], setup], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def worth_saving(slots: Iterable[Slot], restored: Mapping[int, int]) -> list[Slot]:
    """Return the slots that hold enough, the one used last first; none while one is at work: all would wait for it.

    Args:
        slots: All of them.
        restored: How many tokens slots were given back, by id; llama.cpp does not tell before it has used them.
    """
    told = [slot if slot.id_task >= 0 else Slot(slot.id, n_prompt_tokens=restored.get(slot.id, 0)) for slot in slots]
    if any(slot.is_processing for slot in told):
        return []
    return sorted((slot for slot in told if slot.n_prompt_tokens >= LEAST_TOKENS), key=lambda slot: -slot.id_task)


def superfluous(kept: Iterable[Kept], *, budget_bytes: int, now_s: float) -> list[Path]:
    """Return which files go: those that are too old, and the oldest of what is above the budget."""
    left_bytes, gone = budget_bytes, []
    for one in sorted(kept, key=lambda one: -one.saved_s):
        if one.size_bytes > left_bytes or now_s - one.saved_s > KEEP_S:
            gone.append(one.path)
        else:
            left_bytes -= one.size_bytes
    return gone


class Snapshots:
    """The files of one model's workers, in a folder of their own beside those of other models.

    Args:
        folder: Theirs; the engine writes there.
        budget_bytes: What the files of all models beside it may take.
        mark: See `mark`.
        http: The engine.
    """

    def __init__(self, folder: Path, budget_bytes: int, *, mark: str, http: EngineHttp) -> None:
        self._folder = folder
        self._budget_bytes = budget_bytes
        self._mark = mark
        self._http = http
        self._restored: dict[int, int] = {}

    async def restore(self, slots: int) -> None:
        """Give what was kept back to so many slots, the newest first; whatever goes wrong costs only that."""
        for number, name in enumerate(await asyncio.to_thread(self._claim, slots)):
            with contextlib.suppress(errors.EngineFailed):
                action = f"/slots/{number}?action=restore"
                said = await self._http.ask("POST", action, {"filename": name}, _Restored)
                self._restored[number] = said.n_restored
            await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)
        if self._restored:
            _log.info("kv_restored", tokens=sum(self._restored.values()))

    async def save(self) -> None:
        """Keep what the slots hold, for as long as there is room and time; whatever goes wrong costs only that."""
        began_s, tokens = time.monotonic(), 0
        with contextlib.suppress(errors.EngineFailed, TimeoutError, OSError):
            async with asyncio.timeout(SAVE_S):
                tokens = await self._save_all()
        if tokens:
            _log.info("kv_saved", tokens=tokens, ms=round((time.monotonic() - began_s) * 1000))

    async def _save_all(self) -> int:
        left_bytes, token_bytes, tokens = self._budget_bytes, 0.0, 0
        for slot in worth_saving(await self._http.ask("GET", "/slots", None, list[Slot]), self._restored):
            if token_bytes * slot.n_prompt_tokens > left_bytes:
                continue
            name = f"{self._mark}-{time.time_ns()}{PART}"
            action = f"/slots/{slot.id}?action=save"
            try:
                said = await self._http.ask("POST", action, {"filename": name}, _Saved)
            except BaseException:  # also where its time is over
                await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)
                raise
            await asyncio.to_thread(_complete, self._folder / name)
            left_bytes -= said.n_written
            token_bytes = said.n_written / max(1, said.n_saved)
            tokens += said.n_saved
        await asyncio.to_thread(self._tidy)
        return tokens

    def _claim(self, most: int) -> Sequence[str]:
        """Take the newest files of this mark, under names that nobody else looks for; the others of this model go."""
        found = sorted(self._folder.glob(f"*{SUFFIX}"), reverse=True)
        now_s = time.time()
        claimed: list[str] = []
        for path in found:
            with contextlib.suppress(OSError):
                usable = path.name.startswith(f"{self._mark}-") and now_s - path.stat().st_mtime <= KEEP_S
                if usable and len(claimed) < most:
                    taken = path.rename(path.with_suffix(TAKEN))
                    if _crc(taken) == path.stem.rpartition("-")[2]:
                        claimed.append(taken.name)
                    else:
                        taken.unlink()
                elif not usable:
                    path.unlink()
        return claimed

    def _tidy(self) -> None:
        kept: list[Kept] = []
        for path in self._folder.parent.glob(f"*/*{SUFFIX}"):
            with contextlib.suppress(OSError):
                found = path.stat()
                kept.append(Kept(path, found.st_size, found.st_mtime))
        for path in superfluous(kept, budget_bytes=self._budget_bytes, now_s=time.time()):
            path.unlink(missing_ok=True)


def _complete(part: Path) -> None:
    """Give a file that has been written its name."""
    part.rename(part.with_name(f"{part.stem}-{_crc(part)}{SUFFIX}"))


def _crc(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            value = zlib.crc32(block, value)
    return f"{value:08x}"
