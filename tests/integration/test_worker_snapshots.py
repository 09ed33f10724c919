"""What a worker computed of a conversation is there again for the next one of its model; real llama.cpp and files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.support import models
from tests.support.workers import last, worker

SHAPE = models.Shape(n_embd=64, n_layer=2, n_head=2, n_ff=176, ctx=2048)
TALK = "bake kilo lima mike " * 100
BUDGET = 10**9


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.make(tmp_path_factory.mktemp("model") / "small.gguf", SHAPE)


async def cached(model: Path, folder: Path, prompt: str, **options: object) -> int:
    """Start a worker, have it read a prompt and end; return how many tokens it did not compute."""
    options = {"slots": 2, "snapshots": str(folder), "snapshot_bytes": BUDGET, **options}
    async with worker(model, ready=True, **options) as running:
        end = last(await running.execute("job", prompt=prompt, temperature=0, max_tokens=2))
    found = end["tokens_cached"]
    assert isinstance(found, int)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "snapshots" / "model"
    path.mkdir(parents=True)
    return path


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


async def test_the_next_worker_goes_on_with_the_conversation(model: Path, folder: Path) -> None:
    first = await cached(model, folder, TALK)
    [kept] = files(folder)
    mode = stat.S_IMODE(kept.stat().st_mode)
    second = await cached(model, folder, TALK + "oscar")
    third = await cached(model, folder, "oscar " * 300)
    fourth = await cached(model, folder, TALK)

    assert first == third == 0
    assert mode == 0o600
    assert second >= 400
    assert fourth >= 400
    assert not kept.exists()
    assert len(files(folder)) == 2


async def test_with_one_slot_nothing_is_kept(model: Path, folder: Path) -> None:
    await cached(model, folder, TALK, slots=1)

    assert files(folder) == []


async def test_a_short_prompt_and_one_that_there_is_no_room_for_are_not_kept(model: Path, folder: Path) -> None:
    await cached(model, folder, "bake")
    assert files(folder) == []
    await cached(model, folder, TALK, snapshot_bytes=1000)
    assert files(folder) == []


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
async def test_a_damaged_file_costs_only_itself(model: Path, folder: Path, damage: str) -> None:
    await cached(model, folder, TALK)
    [kept] = files(folder)
    data = kept.read_bytes()
    kept.write_bytes({"cut": data[: len(data) // 2], "noise": bytes(range(256)) * 10, "empty": b""}[damage])

    assert await cached(model, folder, TALK) == 0
    assert not kept.exists()
    assert await cached(model, folder, TALK) > 0


async def test_what_another_context_or_a_killed_worker_left_is_of_no_use(model: Path, folder: Path) -> None:
    await cached(model, folder, TALK)
    [kept] = files(folder)
    for suffix in (".part", ".taken"):
        kept.with_suffix(suffix).write_bytes(kept.read_bytes())

    assert await cached(model, folder, TALK, ctx=1024) == 0
    assert not kept.exists()
    for path in folder.glob("*.kv"):
        path.unlink()
    assert await cached(model, folder, TALK) == 0


async def test_other_models_share_the_budget_and_the_oldest_go(model: Path, folder: Path) -> None:
    await cached(model, folder, TALK)
    size = files(folder)[0].stat().st_size
    other = folder.parent / "other"
    other.mkdir()

    await cached(model, other, TALK, snapshot_bytes=size * 3 // 2)

    assert (len(files(folder)), len(files(other))) == (0, 1)


async def test_a_folder_that_cannot_be_written_costs_no_worker(model: Path, tmp_path: Path) -> None:
    assert await cached(model, tmp_path / "nowhere", TALK) == 0
