"""Sets of parts under the names that llama.cpp takes: it knows its own only, with `-of-` and `.gguf` in small letters.

Source: llama.cpp, `llama_split_prefix`.
"""

from __future__ import annotations

from pathlib import Path

from llorch import models


def names(path: str) -> dict[str, str]:
    """Return another name for each part of a set that llama.cpp would not take for one; none for others. Pure."""
    parts = models.parts(path)
    count = len(parts)
    if count == 1 or path.endswith(f"-of-{count:05}.gguf"):
        return {}
    return {f"model-{number:05}-of-{count:05}.gguf": part for number, part in enumerate(parts, 1)}


def linked(path: Path, folder: Path) -> Path:
    """Return where llama.cpp finds a model: at its path, or by links in *folder* where it would not know its names.

    Raises:
        OSError: They cannot be made.
    """
    found = names(path.name)
    for name, part in found.items():
        (folder / name).symlink_to(path.with_name(part))
    return folder / next(iter(found)) if found else path
