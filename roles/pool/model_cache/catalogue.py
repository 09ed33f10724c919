"""The model files of this host: where a reference points, and what there is. Reads files; every call blocks.

Calls come from threads. The cache of metadata is the only state; its entries are replaced whole, and two threads
that read the same new file at once cost nothing but time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import llorch
from llorch.errors import ModelIncompatible, ModelInvalid, ModelNotFound
from llorch.models import BUILTIN_ALIASES, BUILTIN_PREFIX, FileRef, HubRef, parse_ref
from llorch.wire.pools import Disk, Model
from roles.pool.model_cache import gguf

ASSETS = Path(llorch.__file__).parent / "assets"
MAX_FILES = 10_000
MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file that was found and read: its reference, where it is, what it says."""

    ref: str
    path: Path
    size_bytes: int
    metadata: gguf.Metadata


class Catalogue:
    """What is on this host's disk.

    Args:
        models_dir: Where downloads go (in the layout of huggingface_hub's cache) and where users put their own files.
    """

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self._read: dict[tuple[str, int, int], gguf.Metadata | None] = {}

    def inspect(self, ref: str) -> ModelFile:
        """Find the file of a resolved reference and read its metadata.

        Raises:
            InvalidRequest: Not a resolved reference.
            ModelNotFound: No readable file there.
            ModelInvalid: Not a GGUF file, or a truncated one.
            ModelIncompatible: A GGUF file of a kind not known here.
        """
        path = locate(ref, self._models_dir)
        try:
            size, modified = _file(path)
            key = (str(path), size, modified)
            metadata = self._read.get(key)
            if metadata is None:
                with path.open("rb") as file:
                    metadata = gguf.read(file, size)
                self._read[key] = metadata
        except FileNotFoundError:
            raise ModelNotFound(f"{_shown(ref)}: there is no such file on this host") from None
        except OSError as error:
            raise ModelNotFound(f"{_shown(ref)}: the file cannot be read: {error.strerror}") from None
        return ModelFile(ref, path, size, metadata)

    def models(self) -> list[Model]:
        """Return every sound model file, by reference. A file read before and not changed since is not read again."""
        found: dict[str, Model] = {}
        seen: set[tuple[str, int, int]] = set()
        for ref, path in _candidates(self._models_dir):
            try:
                size, modified = _file(path)
                key = (str(path), size, modified)
                seen.add(key)
                if key not in self._read:
                    self._read[key] = _sound(path, size)
            except (OSError, ModelInvalid):
                continue
            metadata = self._read[key]
            if metadata is not None:
                found[ref] = _model(ref, size, metadata)
        for key in [key for key in self._read if key not in seen]:
            self._read.pop(key, None)
        return [found[ref] for ref in sorted(found)]

    def disk(self) -> Disk:
        """Return how full the file system of the models is."""
        where = next(path for path in (self._models_dir, *self._models_dir.parents) if path.exists())
        system = os.statvfs(where)
        return Disk(total_bytes=system.f_blocks * system.f_frsize, free_bytes=system.f_bavail * system.f_frsize)


def locate(ref: str, models_dir: Path) -> Path:
    """Return where the file of a resolved reference is, or would be.

    Raises:
        InvalidRequest: Not a resolved reference.
        ModelNotFound: It is not on this host.
    """
    parsed = parse_ref(ref)
    if isinstance(parsed, FileRef):
        if parsed.builtin is None:
            return Path(parsed.path)
        path = ASSETS / parsed.builtin
        if not path.is_file():
            raise ModelNotFound(f"{_shown(ref)}: no model of that name is built in")
        return path
    snapshots = models_dir / f"models--{parsed.repo.replace('/', '--')}" / "snapshots"
    path = snapshots / parsed.revision / parsed.path
    if ".." in path.parts or not path.is_file():
        raise ModelNotFound(f"{_shown(ref)}: it is not on this host; download it first")
    return path


def _candidates(models_dir: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(ASSETS.glob("*.gguf")):
        yield f"{BUILTIN_PREFIX}{path.name}", path
    for path in _gguf_files(models_dir):
        yield _ref(path, models_dir), path


def _gguf_files(models_dir: Path) -> Iterator[Path]:
    count = 0
    for folder, folders, names in os.walk(models_dir):
        if len(Path(folder).relative_to(models_dir).parts) >= MAX_DEPTH:
            folders.clear()
        for name in sorted(names):
            if name.endswith(".gguf") and count < MAX_FILES:
                count += 1
                yield Path(folder) / name


def _ref(path: Path, models_dir: Path) -> str:
    repo, *inside = path.relative_to(models_dir).parts
    if repo.startswith("models--") and len(inside) >= 3 and inside[0] == "snapshots":
        return str(HubRef(repo.removeprefix("models--").replace("--", "/"), inside[1], "/".join(inside[2:])))
    return str(FileRef(str(path.absolute())))


def _file(path: Path) -> tuple[int, int]:
    """Return size and time of change of a regular file; anything else cannot be a model, and may block for ever."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ModelInvalid("this is not a GGUF model file: it is not a regular file")
    return found.st_size, found.st_mtime_ns


def _sound(path: Path, size: int) -> gguf.Metadata | None:
    try:
        with path.open("rb") as file:
            return gguf.read(file, size)
    except (ModelInvalid, ModelIncompatible):
        return None


def _model(ref: str, size: int, metadata: gguf.Metadata) -> Model:
    return Model(
        model_ref=ref,
        size_bytes=size,
        architecture=metadata.architecture,
        quantization=metadata.quantization,
        context_length=metadata.context_length,
        vocab_size=metadata.vocab_size,
        max_token_bytes=metadata.max_token_bytes,
        aliases=_aliases(ref, BUILTIN_ALIASES),
        parameters=metadata.parameters,
        weights_bytes=metadata.weights_bytes,
        kv_cell_bytes=metadata.kv_cell_bytes,
    )


def _aliases(ref: str, known: Mapping[str, str]) -> list[str]:
    return sorted(alias for alias, target in known.items() if target == ref)


def _shown(ref: str) -> str:
    return ref if len(ref) <= 120 else f"{ref[:119]}…"
