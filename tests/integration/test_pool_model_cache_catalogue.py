"""The model files of a host, found and read on a real disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from llorch.errors import InvalidRequest, ModelInvalid, ModelNotFound
from llorch.models import HAIKU_REF
from roles.pool.model_cache.catalogue import ASSETS, Catalogue, locate
from roles.pool.model_cache.ledger import ModelRecord
from tests.support import old_models

HAIKU = ASSETS / "haiku.gguf"


def test_the_built_in_model_is_inside_the_package() -> None:
    assert locate(HAIKU_REF, Path("/nowhere")).read_bytes()[:4] == b"GGUF"


def test_a_download_is_found_by_its_reference_and_listed_under_it(tmp_path: Path) -> None:
    ref = "hf:org/some-repo@0a1b2c::file=sub/model.gguf"
    path = tmp_path / "models--org--some-repo" / "snapshots" / "0a1b2c" / "sub" / "model.gguf"
    path.parent.mkdir(parents=True)
    shutil.copy(HAIKU, path)

    assert locate(ref, tmp_path) == path
    assert [model.model_ref for model in Catalogue(tmp_path).models()] == [HAIKU_REF, ref]


@pytest.mark.parametrize("ref", ["haiku", "file:relative", "file:/a/../b", "hf:org/repo", "https://x/y.gguf"])
def test_only_resolved_references_are_taken(tmp_path: Path, ref: str) -> None:
    with pytest.raises(InvalidRequest):
        locate(ref, tmp_path)


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")

    with pytest.raises(ModelInvalid, match="regular file"):
        Catalogue(tmp_path).inspect(f"file:{tmp_path}/pipe.gguf")
    assert len(Catalogue(tmp_path).models()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_not_found(tmp_path: Path) -> None:
    path = tmp_path / "secret.gguf"
    shutil.copy(HAIKU, path)
    path.chmod(0)

    with pytest.raises(ModelNotFound, match="cannot be read"):
        Catalogue(tmp_path).inspect(f"file:{path}")


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    path = tmp_path / "m.gguf"
    shutil.copy(HAIKU, path)
    before = [model.model_ref for model in catalogue.models()]
    path.write_bytes(b"GGUF, or not")
    after = [model.model_ref for model in catalogue.models()]
    path.unlink()
    gone = [model.model_ref for model in catalogue.models()]

    assert before == [HAIKU_REF, f"file:{path}"]
    assert after == gone == [HAIKU_REF]


def test_a_model_from_before_gguf_is_found_among_other_files_of_its_suffix(tmp_path: Path) -> None:
    data = old_models.other("gptneox", kind=old_models.Q8_0)
    (tmp_path / "pythia.bin").write_bytes(data)
    (tmp_path / "cut.bin").write_bytes(data[:-100])
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\3\4" * 100)
    os.mkfifo(tmp_path / "pipe.bin")
    catalogue = Catalogue(tmp_path)

    found = {
        Path(entry.ref).name: entry.metadata is not None for entry in catalogue.entries() if entry.origin == "file"
    }
    told = catalogue.inspect(f"file:{tmp_path}/pythia.bin")

    assert found == {"pythia.bin": True, "cut.bin": False}
    assert (told.metadata.form, told.metadata.architecture, told.size_bytes) == ("ggml", "gptneox", len(data))
    assert told.paths == [tmp_path / "pythia.bin"]
    with pytest.raises(ModelInvalid, match="truncated"):
        catalogue.inspect(f"file:{tmp_path}/cut.bin")


def test_a_dead_link_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "dead.gguf").symlink_to(tmp_path / "none")

    assert len(Catalogue(tmp_path).models()) == 1


def test_the_disk_is_that_of_the_models_even_before_their_directory_is_there(tmp_path: Path) -> None:
    disk = Catalogue(tmp_path / "not" / "yet").disk()

    assert 0 < disk.free_bytes <= disk.total_bytes


def test_a_path_that_cannot_be_looked_at_is_a_model_that_is_not_there(tmp_path: Path) -> None:
    ref = f"file:/{'x' * 300}"
    catalogue = Catalogue(tmp_path)

    with pytest.raises(ModelNotFound):
        catalogue.inspect(ref)
    listed = catalogue.models({"x": ModelRecord(model_ref=ref, registered=True)})
    assert [model.model_ref for model in listed] == [HAIKU_REF]
