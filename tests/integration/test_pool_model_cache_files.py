"""A model's files on a real disk: measured, hashed, deleted with what only they needed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from llorch.errors import ModelInvalid
from llorch.models import HubRef
from llorch.wire.models import FileFacts
from roles.pool.model_cache import files, partial

REF = HubRef("org/repo", "a" * 40, "sub/m.gguf")


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_file_goes_where_the_hubs_own_cache_would_have_it(tmp_path: Path) -> None:
    expected = tmp_path / "models--org--repo" / "snapshots" / ("a" * 40) / "sub" / "m.gguf"

    assert files.place(tmp_path, REF, REF.path) == expected


@pytest.mark.parametrize("path", ["../m.gguf", "sub/../../../m.gguf", "/etc/m.gguf", ".."])
def test_a_file_that_leads_out_of_its_repository_has_no_place(tmp_path: Path, path: str) -> None:
    with pytest.raises(ModelInvalid):
        files.place(tmp_path, REF, path)


def test_a_check_compares_with_what_is_told_and_takes_what_nobody_told(tmp_path: Path) -> None:
    path, right = put(tmp_path / "m", b"data"), hashlib.sha256(b"data").hexdigest()
    told = [files.check(path, FileFacts(path="m", size_bytes=4, sha256=sha256)).ok for sha256 in (right, "", "0" * 64)]

    assert told == [True, True, False]
    assert not files.check(tmp_path / "none", FileFacts(path="m", size_bytes=4)).ok


def test_a_deleted_model_takes_its_empty_folders_along_and_no_others(tmp_path: Path) -> None:
    gone = put(files.place(tmp_path, REF, REF.path), b"12345")
    other = put(files.place(tmp_path, HubRef("org/repo", "b" * 40, "m.gguf"), "m.gguf"), b"1")

    freed = files.remove((gone,), tmp_path)

    assert freed == 5
    assert not gone.parent.parent.exists()
    assert other.exists()


def test_a_blob_that_another_revision_links_to_stays(tmp_path: Path) -> None:
    blob = put(tmp_path / "models--o--r" / "blobs" / "x", b"12345")
    links = [tmp_path / "models--o--r" / "snapshots" / revision / "m.gguf" for revision in ("1", "2")]
    for link in links:
        link.parent.mkdir(parents=True)
        link.symlink_to(blob)

    first = files.remove((links[0],), tmp_path)
    kept = blob.exists()
    second = files.remove((links[1],), tmp_path)

    assert (first, kept, second, blob.exists()) == (0, True, 5, False)


def test_a_link_to_a_file_elsewhere_is_deleted_without_the_file(tmp_path: Path) -> None:
    mine = put(tmp_path / "mine" / "m.gguf", b"12345")
    link = tmp_path / "models" / "m.gguf"
    link.parent.mkdir()
    link.symlink_to(mine)

    assert files.remove((link,), tmp_path / "models") == 0
    assert mine.exists()


def test_a_folder_that_goes_away_while_it_is_measured_counts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "stays" / "0", b"12345")
    gone = put(tmp_path / "goes" / "lock", b"1").parent
    scan = os.scandir

    def late(path: str) -> object:
        if Path(path) == gone:
            partial.empty(gone)  # the other download ends just now
        return scan(path)

    monkeypatch.setattr(os, "scandir", late)

    assert files.size_below(tmp_path) == 5
    assert not gone.exists()
