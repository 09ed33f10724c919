"""Reading models for their hashes, from pipes, which give nothing before they are told to."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import termios
from pathlib import Path

import pytest

from llorch.errors import Draining
from llorch.wire.models import FileCheck, FileFacts
from roles.pool.model_cache.hashing import Hashing

MORE_THAN_THE_SHARED_THREADS = 40


def pipe(path: Path) -> tuple[Path, int]:
    """Make a file that gives what is written to the descriptor, once, and ends when that is closed."""
    os.mkfifo(path)
    return path, os.open(path, os.O_RDWR)


async def until_read(writer: int) -> None:
    while fcntl.ioctl(writer, termios.FIONREAD, bytes(4)) != bytes(4):
        await asyncio.sleep(0.01)


def facts(path: Path, *, told: str = "") -> list[FileFacts]:
    return [FileFacts(path=path.name, size_bytes=1, sha256=told)]


async def test_a_model_that_is_being_read_is_read_once_for_all_who_ask(tmp_path: Path) -> None:
    hashing, right = Hashing(), hashlib.sha256(b"model").hexdigest()
    path, writer = pipe(tmp_path / "m.gguf")

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        left = tasks.create_task(hashing.checks([path], facts(path, told=right)))
        asked = [tasks.create_task(hashing.checks([path], facts(path, told=right))) for _ in range(3)]
        os.write(writer, b"model")
        await until_read(writer)
        left.cancel()
        os.close(writer)
    hashing.close()

    assert [task.result() for task in asked] == [[FileCheck(path="m.gguf", sha256=right, expected=right, ok=True)]] * 3


async def test_however_many_are_read_everything_else_goes_on_and_the_end_waits_for_none(tmp_path: Path) -> None:
    hashing = Hashing()
    pipes = [pipe(tmp_path / f"{number}.gguf") for number in range(MORE_THAN_THE_SHARED_THREADS)]

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_end(hashing, path)) for path, _ in pipes]
        await asyncio.sleep(0)
        free = await asyncio.to_thread(lambda: "a thread was free")
        hashing.close()
        for _, writer in pipes:
            os.write(writer, b"model")
    for _, writer in pipes:
        os.close(writer)

    assert free == "a thread was free"
    assert {type(task.result()) for task in asked} == {Draining}


async def _end(hashing: Hashing, path: Path) -> Draining:
    with pytest.raises(Draining) as ended:
        await hashing.checks([path], facts(path))
    return ended.value
