"""A model's file is in the page cache before a worker asks for it; what there is no room for is left on the disk."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import sys
from pathlib import Path

import pytest

from llorch.errors import RemoteError
from llorch.wire.models import Preloading
from roles.pool.model_cache.readahead import ReadAhead, most
from tests.support import models
from tests.support.pools import running_pool

PAGE = mmap.PAGESIZE
GIB = 2**30
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the page cache is looked into as Linux allows it")


def resident(path: Path) -> float:
    """Return which share of a file is in the page cache: mincore(2)."""
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE) as mapped:
        pages = (ctypes.c_ubyte * -(-size // PAGE))()
        first = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None).mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), pages)
        del first
    assert not failed
    return sum(page & 1 for page in pages) / len(pages)


def forget(path: Path) -> None:
    """Have the system drop a file from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if resident(path) > 0:
        pytest.skip("this file system keeps its pages")


@pytest.mark.parametrize(("size", "available", "read"), [(4, 8, 4), (4, 9, 4), (5, 8, 0), (0, 0, 0), (1, 0, 0)])
def test_a_model_is_read_whole_or_not_at_all_and_fills_half_of_what_is_available_at_most(
    size: int, available: int, read: int
) -> None:
    assert most(size * GIB, available * GIB) == read * GIB


@linux_only
async def test_a_pool_that_is_told_so_reads_a_model_ahead(tmp_path: Path) -> None:
    model = models.make(tmp_path / "model.gguf", models.LARGER)
    forget(model)
    async with running_pool(tmp_path / "pool") as pool:
        body = {"model_ref": f"file:{model}"}
        told = await pool.client.send("POST", "/v2/models/preload", Preloading, body=body)
        async with asyncio.timeout(60):
            while resident(model) < 1:
                await asyncio.sleep(0)
        with pytest.raises(RemoteError) as unknown:
            await pool.client.send("POST", "/v2/models/preload", Preloading, body={"model_ref": "file:/no/such.gguf"})

    assert told == Preloading(f"file:{model}", model.stat().st_size)
    assert unknown.value.code == "MODEL_NOT_FOUND"


async def test_one_model_is_read_at_a_time_and_none_once_the_pool_ends(tmp_path: Path) -> None:
    pipe, files = tmp_path / "pipe", [tmp_path / "file"]
    os.mkfifo(pipe)
    files[0].write_bytes(b"x")
    async with asyncio.TaskGroup() as tasks:
        ahead = ReadAhead(tasks)
        first = ahead.begin("a", [pipe])  # nothing comes out of it until somebody writes
        second = ahead.begin("b", files)
        os.close(await asyncio.to_thread(os.open, pipe, os.O_WRONLY))
        await ahead.close()
        third = ahead.begin("c", files)

    assert (first, second, third) == (True, False, False)


async def test_a_file_that_goes_away_costs_nothing(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        ahead = ReadAhead(tasks)
        begun = ahead.begin("a", [tmp_path / "gone"])
        await ahead.close()

    assert begun
