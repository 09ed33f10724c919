"""Where models may be on this host, and what each would be called. Walks folders; reads no model.

A file can lie anywhere under the models' folder and have any name that the system allows. A reference cannot say all of
them: a name that is not UTF-8, a line break, a repository of huggingface_hub's cache without an organisation.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llorch import checkpoint_files, ggml, models
from llorch.errors import InvalidRequest
from llorch.models import BUILTIN_PREFIX, FileRef, HubRef
from llorch.wire.models import Origin
from roles.pool.model_cache import checkpoint

MAX_FILES = 10_000
MAX_DEPTH = 8
OLD_SUFFIX = ".bin"
"""What files from before GGUF are called, among others."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may be a model: its reference, or None where no reference can say it, and its (first) file or its folder."""

    ref: str | None
    origin: Origin
    path: Path


def candidates(builtin: Path, models_dir: Path, registered: Iterable[str]) -> Iterator[Candidate]:
    """Yield what may be a model, as it is found.

    Args:
        builtin: The folder of the models inside the executable.
        models_dir: Where downloads go, and where users put their own files.
        registered: References of users' files elsewhere.
    """
    for path in sorted(builtin.glob("*.gguf")):
        yield Candidate(f"{BUILTIN_PREFIX}{path.name}", "builtin", path)
    for ref in registered:
        yield Candidate(ref, "registered", Path(ref.removeprefix("file:")))
    for path in _model_files(models_dir):
        if checkpoint.is_folder(path) or parts(path)[0] == path:
            yield named(path, models_dir)


def named(path: Path, models_dir: Path) -> Candidate:
    """Return a model under *models_dir* as it is called: as one of the hub where its place says so, else as a file."""
    repo, *inside = path.relative_to(models_dir).parts or ("",)
    if checkpoint.is_folder(path):
        inside.append(checkpoint_files.CONFIG)
    if repo.startswith("models--") and len(inside) >= 3 and inside[0] == "snapshots":
        hub = HubRef(repo.removeprefix("models--").replace("--", "/"), inside[1], "/".join(inside[2:]))
        if can_be_said(str(hub)):
            return Candidate(str(hub), "hub", path)
    file = str(FileRef(str(path.absolute())))
    return Candidate(file if can_be_said(file) else None, "file", path)


def can_be_said(ref: str) -> bool:
    """Tell whether a text is a reference, for everybody who reads one. Pure."""
    try:
        models.parse_ref(ref)
        ref.encode()
    except (InvalidRequest, UnicodeEncodeError):
        return False
    return True


def parts(path: Path) -> list[Path]:
    """Return the files that a model is made of, of which *path* is one."""
    return [path.with_name(name) for name in models.parts(path.name)]


def _model_files(models_dir: Path) -> Iterator[Path]:
    count = 0
    for folder, folders, names in os.walk(models_dir):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if len(Path(folder).relative_to(models_dir).parts) >= MAX_DEPTH:
            folders.clear()
        if checkpoint.is_one(Path(folder)) and count < MAX_FILES:
            count += 1
            yield Path(folder)
        for name in sorted(names):
            path = Path(folder) / name
            if count < MAX_FILES and (models.is_gguf(name) or (name.endswith(OLD_SUFFIX) and _is_old(path))):
                count += 1
                yield path


def _is_old(path: Path) -> bool:
    """Tell whether a file is a model from before GGUF; others have the same suffix."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return ggml.is_old(file.read(4))
    except OSError:
        return False
