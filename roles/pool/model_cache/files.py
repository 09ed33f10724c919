"""What is done with the files of a model: found, measured, hashed, deleted. Every call blocks; it knows no records."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from llorch import checkpoint_files, models
from llorch.errors import ModelInvalid
from llorch.models import HubRef
from llorch.wire.models import FileCheck, FileFacts
from roles.pool.model_cache import checkpoint

PIECE_BYTES = 4 * 1024 * 1024


def place(folder: Path, ref: HubRef, path: str) -> Path:
    """Return where a file of a repository belongs: as in huggingface_hub's cache, so that both find it.

    Raises:
        ModelInvalid: The path leads out of the repository.
    """
    if path.startswith("/") or ".." in path.split("/"):
        raise ModelInvalid(f"the model is said to have a file that leads out of its folder: {path[:200]!r}")
    return folder / f"models--{ref.repo.replace('/', '--')}" / "snapshots" / ref.revision / path


def placed(folder: Path, ref: HubRef) -> list[Path]:
    """Return those files of a model that are where they belong, whether all of them are or not."""
    if checkpoint_files.names_one(ref.path):
        return checkpoint.present(place(folder, ref, ref.path).parent)
    return [path for part in models.parts(ref.path) if checkpoint.is_file(path := place(folder, ref, part))]


def sha256_of(path: Path, tell: Callable[[int], None] = lambda _: None) -> str:
    """Return a file's hash; *tell* is called with the bytes read since the last call."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            tell(len(piece))
    return digest.hexdigest()


def remove(paths: tuple[Path, ...], folder: Path) -> int:
    """Delete a model's files, the first one first, and what only they needed; return the bytes that came free.

    In huggingface_hub's cache a file is a link to a blob. The blob goes too, unless another revision links to it.
    """
    freed = 0
    for path in paths:
        target = path.resolve()
        taken = size(path)
        if path.is_symlink():
            path.unlink()
            inside = target.is_relative_to(folder.resolve())
            repo = target.parent.parent
            if inside and not any(link.resolve() == target for link in _below(repo / "snapshots")):
                target.unlink(missing_ok=True)
                freed += taken
        else:
            path.unlink(missing_ok=True)
            freed += taken
    for parent in paths[0].parents if paths else ():
        if parent == folder or not parent.is_relative_to(folder):
            break
        with contextlib.suppress(OSError):
            parent.rmdir()
    return freed


def check(path: Path, fact: FileFacts, *, tell: Callable[[int], None] = lambda _: None) -> FileCheck:
    """Compare a file's hash with what it must be; a file that cannot be read is not sound. See `sha256_of`."""
    try:
        found = sha256_of(path, tell)
    except OSError:
        found = ""
    ok = bool(found) and fact.sha256 in {"", found}
    return FileCheck(path=fact.path, sha256=found, expected=fact.sha256, ok=ok)


def told_by_cache(path: Path) -> str:
    """Return the hash that a blob of huggingface_hub's cache has for its name, if the file is one."""
    name = path.resolve().name if path.is_symlink() else ""
    return name if len(name) == 64 and all(c in "0123456789abcdef" for c in name) else ""


def size(path: Path) -> int:
    """Return a file's length; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def size_below(folder: Path) -> int:
    """Return the length of all files in a folder together."""
    return sum(map(size, _below(folder)))


def _below(folder: Path) -> Iterator[Path]:
    """Yield all that is in a folder and is none; others may remove folders meanwhile, which `Path.rglob` takes ill."""
    for where, _, names in os.walk(folder):
        yield from (Path(where) / name for name in names)
