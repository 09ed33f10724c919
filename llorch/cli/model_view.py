"""How models on a disk, downloads and names are shown to a person. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from llorch import models
from llorch.cli.figures import bar, size
from llorch.cli.model_download import line
from llorch.models import BUILTIN_ALIASES
from llorch.wire.models import DiskUsage, Download, StoredModel
from llorch.wire.pools import Model

DOWNLOADS = ("DOWNLOAD", "STATE", "MODEL")
NAMES = ("NAME", "ON DISK", "MEANS")
STORED = ("ID", "SIZE", "LAST USED", "STATE", "MODEL")
NOTHING = "–"


def download_row(view: Download) -> Sequence[str]:
    """Return a download's row under `DOWNLOADS`."""
    return (view.download_id, line(view), view.model_ref)


def name_rows(aliases: Mapping[str, str], found: Sequence[Model] | None) -> list[Sequence[str]]:
    """Return a row under `NAMES` for every name; *found* is what a pool has, None where it could not be asked."""
    rows: list[Sequence[str]] = []
    for name, ref in sorted({**BUILTIN_ALIASES, **aliases}.items()):
        there = [model for model in found or () if models.stands_for(ref, model.model_ref)]
        shown = size(there[0].size_bytes) if there else NOTHING
        rows.append((name, "?" if found is None else shown, ref))
    return rows


def stored_row(model: StoredModel) -> Sequence[str]:
    """Return a model's row under `STORED`."""
    return (model.model_id, size(model.size_bytes), when(model.last_used_ms), state(model), model.model_ref)


def state(model: StoredModel) -> str:
    """Return what matters of a model on a disk, in a few words."""
    told = {"builtin": "built in", "hub": "", "file": "own file", "registered": "registered"}[model.origin]
    words = [told, "corrupt" * model.corrupt, "in use" * model.in_use, "pinned" * model.pinned]
    return ", ".join(word for word in words if word) or NOTHING


def facts(model: StoredModel) -> list[tuple[str, str]]:
    """Return what `info` shows."""
    found = [
        ("id", model.model_id),
        ("reference", model.model_ref),
        ("names", ", ".join(model.aliases) or NOTHING),
        ("size", size(model.size_bytes)),
        ("state", state(model)),
        ("architecture", model.architecture or NOTHING),
        ("quantisation", model.quantization or NOTHING),
        ("context", str(model.context_length or NOTHING)),
        ("parameters", f"{model.parameters:,}" if isinstance(model.parameters, int) else NOTHING),
        ("added", when(model.added_ms)),
        ("last used", when(model.last_used_ms)),
        ("verified", when(model.verified_ms if isinstance(model.verified_ms, int) else 0)),
    ]
    files = [f"{file.path}  {size(file.size_bytes)}  {file.sha256 or 'hash unknown'}" for file in model.files]
    return found + [("file", told) for told in files]


def usage(told: DiskUsage) -> list[tuple[str, str]]:
    """Return what `disk-usage` shows above the models."""
    used = told.total_bytes - told.free_bytes
    found = [
        ("disk", f"{bar(used, told.total_bytes)}  {size(told.free_bytes)} of {size(told.total_bytes)} free"),
        ("downloaded models", size(told.models_bytes)),
    ]
    if told.partial_bytes:
        found.append(("unfinished downloads", size(told.partial_bytes)))
    if told.budget_bytes:
        taken = told.models_bytes + told.partial_bytes
        found.append(("budget", f"{bar(taken, told.budget_bytes)}  of {size(told.budget_bytes)}"))
    return found


def when(ms: int) -> str:
    """Return a moment as the clock here shows it; a dash for never."""
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M") if ms else NOTHING
