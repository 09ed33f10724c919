"""What the files of a model on the disk are called, and what they must be: as its record tells, else by their names."""

from __future__ import annotations

from pathlib import Path

from llorch import checkpoint_files, models
from llorch.models import ServerRef
from llorch.wire.models import FileFacts
from roles.pool.model_cache import files
from roles.pool.model_cache.catalogue import Entry
from roles.pool.model_cache.ledger import ModelRecord


def facts_of(entry: Entry, record: ModelRecord | None) -> list[FileFacts]:
    """Return a model's files in order; reads their sizes where its record does not tell what they must be."""
    if record is not None and [Path(f.path).name for f in record.files] == [path.name for path in entry.paths]:
        return record.files
    parsed = models.parse_ref(entry.ref)
    assert not isinstance(parsed, ServerRef)  # its path was found on the disk
    if entry.paths[0].parent == Path(parsed.path):
        names = [str(path) for path in entry.paths]
    elif checkpoint_files.names_one(parsed.path):
        names = [parsed.path.removesuffix(checkpoint_files.CONFIG) + path.name for path in entry.paths]
    else:
        names = models.parts(parsed.path)
    return [
        FileFacts(path=name, size_bytes=files.size(path), sha256=files.told_by_cache(path))
        for name, path in zip(names, entry.paths, strict=True)
    ]
