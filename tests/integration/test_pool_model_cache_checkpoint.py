"""Folders in Hugging Face's layout as a pool finds, reads and lists them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llorch.errors import LlorchError, ModelIncompatible, ModelInvalid, ModelNotFound
from roles.pool.model_cache import checkpoint
from roles.pool.model_cache.catalogue import Catalogue
from tests.support import checkpoints
from tests.support.checkpoints import Variant
from tests.support.engines import vocabulary
from tests.support.models import Shape

SHAPE = Shape(n_head=4, n_kv_head=2)


def test_a_checkpoint_says_what_its_config_and_its_headers_hold(tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path / "mine", SHAPE, Variant("qwen2", biased=True, files=3))
    words = len(vocabulary()[0])
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 160 + 2 * 64 + 64 + 2 * 32

    found = checkpoint.read(folder)

    assert found.form == "safetensors"
    assert (found.architecture, found.context_length, found.block_count) == ("qwen2", 512, 2)
    assert (found.kv_heads, found.key_length, found.vocab_size) == ((2, 2), 16, words)
    assert found.parameters == 2 * words * 64 + 64 + 2 * layer
    assert found.weights_bytes == 2 * found.parameters
    assert found.quantization == "F32"


@pytest.mark.parametrize("parts", [1, 3])
def test_a_folder_of_the_users_is_listed_and_is_all_its_files(tmp_path: Path, parts: int) -> None:
    folder = checkpoints.make(tmp_path / "some" / "mine", SHAPE, Variant(files=parts))
    catalogue = Catalogue(tmp_path)

    listed = catalogue.models()[-1]
    found = catalogue.inspect(f"file:{folder}")

    assert listed.model_ref == f"file:{folder}"
    assert listed.size_bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert (found.path, found.size_bytes) == (folder, listed.size_bytes)
    assert sorted(found.paths) == sorted(folder.iterdir())


def unlink(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def cut(folder: Path) -> None:
    path = folder / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def eights(folder: Path) -> None:
    path = folder / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I8" '))


def smaller(folder: Path) -> None:
    path = folder / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F16"', 1))


def outside(folder: Path) -> None:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": "../b.safetensors"}}))


@pytest.mark.parametrize(
    ("spoil", "refusal"),
    [
        (unlink("model-00002-of-00003.safetensors"), ModelNotFound),
        (unlink("config.json"), ModelInvalid),
        (cut, ModelInvalid),
        (write("model-00002-of-00003.safetensors", b"no"), ModelInvalid),
        (write("model-00002-of-00003.safetensors", b"\xff" * 100), ModelInvalid),
        (write("model-00002-of-00003.safetensors", b"\x05" + b"\0" * 7 + b"hello"), ModelInvalid),
        (write("model-00002-of-00003.safetensors", b"\x08" + b"\0" * 7 + b'{"\xff":1}'), ModelInvalid),
        (write("model.safetensors.index.json", b'{"weight_map": {"a": "b\\u0000.safetensors"}}'), ModelInvalid),
        (write("config.json", b"[" * 100_000), ModelInvalid),
        (write("config.json", b"{}"), ModelInvalid),
        (smaller, ModelInvalid),
        (outside, ModelInvalid),
        (eights, ModelIncompatible),
    ],
)
def test_a_bad_checkpoint_is_refused_and_not_listed(
    tmp_path: Path, spoil: Callable[[Path], object], refusal: type[LlorchError]
) -> None:
    folder = checkpoints.make(tmp_path / "mine", SHAPE, Variant(files=3))
    spoil(folder)

    with pytest.raises(refusal):
        Catalogue(tmp_path).inspect(f"file:{folder}")
    assert len(Catalogue(tmp_path).models()) == 1
