"""What may be a model in real folders, and what each is called."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from llorch.models import HAIKU_REF
from roles.pool.model_cache.candidates import Candidate, candidates
from roles.pool.model_cache.catalogue import ASSETS, Catalogue
from tests.support.pools import running_pool

HAIKU = ASSETS / "haiku.gguf"
ODD = (b"mod\xe8le.gguf", b"a\nb.gguf", b"models--org--n/snapshots/0a1b/c\td.gguf")


def put(models_dir: Path, name: bytes) -> Path:
    path = models_dir / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(HAIKU, path)
    return path


def test_names_that_no_reference_can_say_are_found_without_one(tmp_path: Path) -> None:
    odd = [put(tmp_path, name) for name in ODD]
    fine = put(tmp_path, "modèle 2.gguf".encode())

    found = list(candidates(ASSETS, tmp_path, ["file:/elsewhere.gguf"]))

    assert found[:2] == [
        Candidate(HAIKU_REF, "builtin", HAIKU),
        Candidate("file:/elsewhere.gguf", "registered", Path("/elsewhere.gguf")),
    ]
    assert {one.path: one.ref for one in found[2:]} == {fine: f"file:{fine}"} | dict.fromkeys(odd)


def test_what_the_hubs_cache_has_and_no_reference_of_the_hub_can_say_is_a_file(tmp_path: Path) -> None:
    alone = put(tmp_path, b"models--gpt2/snapshots/0a1b/gpt2.gguf")
    slanted = put(tmp_path, b"models--org--n/snapshots/0a1b/a\\b.gguf")
    bert = tmp_path / "models--bert-base-uncased" / "snapshots" / "0a1b"
    bert.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (bert / name).write_bytes(b"{}")
    catalogue = Catalogue(tmp_path)

    found = {entry.ref: entry.origin for entry in catalogue.entries()}
    usable = [model.model_ref for model in catalogue.models()]

    assert found == {HAIKU_REF: "builtin"} | {f"file:{path}": "file" for path in (alone, slanted, bert)}
    assert usable == sorted([HAIKU_REF, f"file:{alone}", f"file:{slanted}"])
    assert catalogue.inspect(f"file:{alone}").path == alone


def test_case_does_not_matter_in_the_suffix(tmp_path: Path) -> None:
    alone, first, second = (
        put(tmp_path, name) for name in (b"a.GGUF", b"m-00001-of-00002.GGUF", b"m-00002-of-00002.GGUF")
    )

    found = {entry.ref: entry.paths for entry in Catalogue(tmp_path).entries() if entry.origin == "file"}

    assert found == {f"file:{alone}": (alone,), f"file:{first}": (first, second)}


async def test_a_pool_goes_on_when_somebody_drops_files_of_odd_names_into_its_folder(tmp_path: Path) -> None:
    async with running_pool(tmp_path) as pool:
        await pool.listener.until(lambda: pool.listener.registrations or None)
        for name in (*ODD, b"good.gguf"):
            put(tmp_path / "models", name)
        worker_id = await pool.spawn()  # a change, which is reported at once
        await pool.listener.until_worker(worker_id, "ready")
        async with pool.client.request("GET", "/v2/models/disk-usage") as answer:
            status = answer.status

        told = [model.model_ref for model in pool.listener.heartbeats[-1].models]

    assert status == 200
    assert told == [HAIKU_REF, f"file:{tmp_path}/models/good.gguf"]
