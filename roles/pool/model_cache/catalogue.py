"""The model files of this host: where a reference points, and what there is. Reads files; every call blocks.

Calls come from threads. The cache of metadata is the only state; its entries are replaced whole, and two threads
that read the same new file at once cost nothing but time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import llorch
from llorch import checkpoint_files, log, models
from llorch.abilities import abilities
from llorch.errors import ModelIncompatible, ModelInvalid, ModelNotFound
from llorch.models import FileRef, ServerRef, parse_ref
from llorch.wire.models import Origin
from llorch.wire.pools import Disk, Model
from roles.pool.model_cache import checkpoint, files, gguf, old_forms
from roles.pool.model_cache.candidates import candidates, parts
from roles.pool.model_cache.ledger import ModelRecord

ASSETS = Path(llorch.__file__).parent / "assets"
_log = log.get("pool.catalogue")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that was found and read: its reference, its (first) file or its folder, what it says.

    Sizes are those of all parts.
    """

    ref: str
    path: Path
    size_bytes: int
    metadata: gguf.Metadata

    @property
    def paths(self) -> list[Path]:
        """All its files."""
        return checkpoint.files(self.path) if self.metadata.form == "safetensors" else parts(self.path)


@dataclass(frozen=True, slots=True)
class Entry:
    """A model on the disk: its files in order, and its metadata, or None where it is not a sound and whole model."""

    ref: str
    origin: Origin
    paths: tuple[Path, ...]
    size_bytes: int
    modified_ms: int
    metadata: gguf.Metadata | None

    def model(self, record: ModelRecord | None, aliases: Mapping[str, str]) -> Model | None:
        """Return it as others are told; None when it is not to be used."""
        if self.metadata is None or (record is not None and record.corrupt):
            return None
        metadata = self.metadata
        return Model(
            model_ref=self.ref,
            size_bytes=self.size_bytes,
            architecture=metadata.architecture,
            quantization=metadata.quantization,
            context_length=metadata.context_length,
            vocab_size=metadata.vocab_size,
            max_token_bytes=metadata.max_token_bytes,
            aliases=models.aliases_of(self.ref, aliases),
            parameters=metadata.parameters,
            weights_bytes=metadata.weights_bytes,
            kv_cell_bytes=metadata.kv_cell_bytes,
            kind=metadata.kind,
            capabilities=list(abilities(metadata.pooling)),
            template_knows=list(metadata.template_knows),
            model_id=models.model_id(self.ref),
            added_ms=record.added_ms if record is not None and record.added_ms else self.modified_ms,
        )


Records = Mapping[str, ModelRecord]
"""What is known of models beside their files, by model id."""


class Catalogue:
    """What is on this host's disk.

    Args:
        models_dir: Where downloads go (in the layout of huggingface_hub's cache) and where users put their own files.
        aliases: The user's names for models.
    """

    def __init__(self, models_dir: Path, aliases: Mapping[str, str] | None = None) -> None:
        self.models_dir = models_dir
        self.aliases = aliases or {}
        self._read: dict[tuple[str, int, int], gguf.Metadata | None] = {}
        self._left_out: set[str] = set()

    def inspect(self, ref: str) -> ModelFile:
        """Find the file of a resolved reference and read its metadata.

        Raises:
            InvalidRequest: Not a resolved reference.
            ModelNotFound: No readable file there, or a part is missing.
            ModelInvalid: Not a GGUF file, one from before, or a folder of safetensors; or a truncated one.
            ModelIncompatible: A GGUF file of a kind not known here.
        """
        first = locate(ref, self.models_dir)
        if checkpoint.is_folder(first):
            return self._checkpoint(ref, first)
        try:
            read = [(path, *self._metadata(path)) for path in parts(first)]
        except FileNotFoundError as error:
            missing = Path(str(error.filename)).name
            what = "there is no such file" if missing == first.name else f"its part {missing} is not"
            raise ModelNotFound(f"{_shown(ref)}: {what} on this host") from None
        except OSError as error:
            raise ModelNotFound(f"{_shown(ref)}: the file cannot be read: {error.strerror}") from None
        metadata = _joined([metadata for _, _, metadata in read])
        return ModelFile(ref, read[0][0], sum(size for _, size, _ in read), metadata)

    def tokens(self, path: Path) -> gguf.Tokens:
        """Read the vocabulary of a model that `inspect` has found.

        Raises:
            ModelNotFound: It is not there any more.
        """
        try:
            with path.open("rb") as file:
                return gguf.read_tokens(file, path.stat().st_size)
        except OSError as error:
            raise ModelNotFound(f"{path.name}: the file cannot be read: {error.strerror}") from None

    def models(self, records: Records | None = None) -> list[Model]:
        """Return every sound model, by reference. A file read before and not changed since is not read again."""
        known = records or {}
        told = [entry.model(known.get(models.model_id(entry.ref)), self.aliases) for entry in self.entries(known)]
        return [model for model in told if model is not None]

    def entries(self, records: Records | None = None) -> list[Entry]:
        """Return every model, by reference, sound or not: built in, downloaded, put there, or registered."""
        found: dict[str, Entry] = {}
        seen: set[tuple[str, int, int]] = set()
        registered = [record.model_ref for record in (records or {}).values() if record.registered]
        for candidate in candidates(ASSETS, self.models_dir, registered):
            ref, origin, first = candidate.ref, candidate.origin, candidate.path
            if ref is None:
                self._leave_out(first)
                continue
            if ref in found:
                continue
            if checkpoint.is_folder(first):
                found[ref] = self._folder(ref, origin, first, seen)
                continue
            read: list[gguf.Metadata | None] = []
            total, newest, paths = 0, 0, parts(first)
            for path in paths:
                try:
                    size, modified = _file(path)
                except (OSError, ModelInvalid):
                    read.append(None)
                    continue
                key = (str(path), size, modified)
                seen.add(key)
                if key not in self._read:
                    self._read[key] = _sound(path, size)
                read.append(self._read[key])
                total, newest = total + size, max(newest, modified // 1_000_000)
            if newest == 0:
                continue
            sound = [metadata for metadata in read if metadata is not None]
            whole = _joined(sound) if len(sound) == len(paths) else None
            found[ref] = Entry(ref, origin, tuple(paths), total, newest, whole)
        for key in [key for key in self._read if key not in seen]:
            self._read.pop(key, None)
        return [found[ref] for ref in sorted(found)]

    def disk(self) -> Disk:
        """Return how full the file system of the models is."""
        where = next(path for path in (self.models_dir, *self.models_dir.parents) if path.exists())
        system = os.statvfs(where)
        return Disk(total_bytes=system.f_blocks * system.f_frsize, free_bytes=system.f_bavail * system.f_frsize)

    def _leave_out(self, path: Path) -> None:
        if str(path) not in self._left_out:
            self._left_out.add(str(path))
            _log.warning("model_left_out", path=repr(str(path)), reason="no reference can say such a name; rename it")

    def _checkpoint(self, ref: str, folder: Path) -> ModelFile:
        if not checkpoint.is_one(folder):
            raise ModelInvalid(f"{_shown(ref)}: the folder holds no model: it has no config.json with safetensors")
        try:
            _, size, key = _measured(folder)
            metadata = self._read.get(key) or checkpoint.read(folder)
        except FileNotFoundError as error:
            missing = Path(str(error.filename)).name
            raise ModelNotFound(f"{_shown(ref)}: its file {missing} is not on this host") from None
        except OSError as error:
            raise ModelNotFound(f"{_shown(ref)}: the model cannot be read: {error.strerror}") from None
        self._read[key] = metadata
        return ModelFile(ref, folder, size, metadata)

    def _folder(self, ref: str, origin: Origin, folder: Path, seen: set[tuple[str, int, int]]) -> Entry:
        """Return a checkpoint as it is listed."""
        try:
            paths, size, key = _measured(folder)
        except (OSError, ModelInvalid):
            there = checkpoint.present(folder) or [folder / checkpoint_files.CONFIG]
            return Entry(ref, origin, tuple(there), sum(map(files.size, there)), 0, None)
        seen.add(key)
        if key not in self._read:
            try:
                self._read[key] = checkpoint.read(folder)
            except (OSError, ModelInvalid, ModelIncompatible):
                self._read[key] = None
        return Entry(ref, origin, tuple(paths), size, key[2] // 1_000_000, self._read[key])

    def _metadata(self, path: Path) -> tuple[int, gguf.Metadata]:
        size, modified = _file(path)
        key = (str(path), size, modified)
        metadata = self._read.get(key)
        if metadata is None:
            with path.open("rb") as file:
                metadata = old_forms.read(file, size)
            self._read[key] = metadata
        return size, metadata


def locate(ref: str, models_dir: Path) -> Path:
    """Return where the file of a resolved reference is, or would be; of a checkpoint of the hub, its folder.

    Raises:
        InvalidRequest: Not a resolved reference.
        ModelNotFound: It is not on this host.
    """
    parsed = parse_ref(ref)
    if isinstance(parsed, ServerRef):
        raise ModelNotFound(f"{_shown(ref)}: it is no file of this host, but a model of a server")
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
    return path.parent if checkpoint_files.names_one(parsed.path) else path


def _joined(read: list[gguf.Metadata]) -> gguf.Metadata:
    """Return what the parts of a model say together; a part alone keeps saying that it is one."""
    first = read[0]
    if len(read) == 1:
        return first
    return replace(
        first,
        parameters=sum(part.parameters for part in read),
        weights_bytes=sum(part.weights_bytes for part in read),
        split_count=1,
    )


def _measured(folder: Path) -> tuple[list[Path], int, tuple[str, int, int]]:
    """Return a checkpoint's files, their length, and what changes with any of them."""
    paths = checkpoint.files(folder)
    measured = [_file(path) for path in paths]
    total = sum(size for size, _ in measured)
    return paths, total, (str(folder), total, max(modified for _, modified in measured))


def _file(path: Path) -> tuple[int, int]:
    """Return size and time of change of a regular file; anything else cannot be a model, and may block for ever."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ModelInvalid("this is not a GGUF model file: it is not a regular file")
    return found.st_size, found.st_mtime_ns


def _sound(path: Path, size: int) -> gguf.Metadata | None:
    try:
        with path.open("rb") as file:
            return old_forms.read(file, size)
    except (OSError, ModelInvalid, ModelIncompatible):
        return None


def _shown(ref: str) -> str:
    return ref if len(ref) <= 120 else f"{ref[:119]}…"
