"""Models in Ollama's words: the names its clients send and are shown, and what they are told of a model file. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import UNSET

from llorch.wire.models import Download
from llorch.wire.ollama import Details, Progress, Running, Shown, Tag
from llorch.wire.pools import Device, Model, WorkerReport
from roles.orchestrator.dialects.ollama import rfc3339

LATEST = ":latest"
FOR_EVER = "2318-01-01T00:00:00.000Z"
"""Ollama shows such a far time for what it never unloads."""
_HUB = re.compile(r"^(?:https?://)?(?:hf\.co|huggingface\.co)/(?P<repo>[^/:]+/[^/:]+)(?::(?P<tag>.+))?$")
_CAPABILITIES = {"text-gen": "completion"}
_OF_TEMPLATES = ("tools", "thinking")
"""What a chat template can tell a model of, which Ollama counts among its capabilities."""
_STEPS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


@dataclass(frozen=True, slots=True)
class Quantised:
    """A repository on the hub, and the quantisation of the file that is wanted of it."""

    repo: str
    quantisation: str


def wanted(name: str, known: Collection[str]) -> str | Quantised:
    """Return what a client means by a name: an alias or a reference, or a file that is still to be found.

    `NAME:latest` is the alias NAME. `hf.co/ORG/REPO:TAG` is the repository's file TAG, or its file of that
    quantisation; without a tag it is the one that is taken when none is named. Any other name stays what it is.

    Args:
        name: What the client sent.
        known: All aliases.
    """
    found = _HUB.fullmatch(name)
    if found is not None:
        repo, tag = found["repo"], found["tag"] or "latest"
        if tag.lower().endswith(".gguf"):
            return f"hf:{repo}::file={tag}"
        return f"hf:{repo}" if tag == "latest" else Quantised(repo, tag)
    plain = name.removesuffix(LATEST)
    return plain if name not in known and plain in known else name


def shown_names(ref: str, names: Sequence[str]) -> list[str]:
    """Return the *names* of a model as clients are shown them; `wanted` understands each. Without one it is its ref."""
    return [name if ":" in name else name + LATEST for name in names] or [ref]


def tags(models: Iterable[Model], names: Callable[[str], Sequence[str]]) -> list[Tag]:
    """Return the models that hosts have, each once, by name.

    Args:
        models: What they have.
        names: Tells what people call a model.
    """
    by_ref = {model.model_ref: model for model in models}
    return sorted(
        (
            Tag(
                name=name,
                model=name,
                modified_at=rfc3339(model.added_ms),
                size=model.size_bytes,
                digest=digest(ref),
                details=details(model),
            )
            for ref, model in by_ref.items()
            for name in shown_names(ref, names(ref))
        ),
        key=lambda tag: tag.name,
    )


def running(worker: WorkerReport, model: Model | None, name: str, *, until_ms: int | None) -> Running:
    """Return a loaded model.

    Args:
        worker: Who has it.
        model: What is known of its file.
        name: What clients call it.
        until_ms: When it is unloaded if nobody asks for it any more; None is never.
    """
    return Running(
        name=name,
        model=name,
        size=worker.memory_bytes,
        digest=digest(worker.model_ref),
        details=details(model),
        expires_at=FOR_EVER if until_ms is None else rfc3339(until_ms),
        size_vram=0 if worker.backend == "cpu" else worker.memory_bytes,
        context_length=worker.context_length,
    )


def shown(model: Model, *, sees: bool = False) -> Shown:
    """Return all that is known of a model file, and whether its workers read pictures."""
    info: dict[str, str | int] = {
        "general.architecture": model.architecture,
        f"{model.architecture}.context_length": model.context_length,
        f"{model.architecture}.vocab_size": model.vocab_size,
    }
    if model.parameters is not UNSET:
        info["general.parameter_count"] = model.parameters
    return Shown(
        details=details(model),
        model_info=info,
        capabilities=_capabilities(model, sees=sees),
        modified_at=rfc3339(model.added_ms),
        modelfile=f"FROM {model.model_ref}\n",
    )


def _capabilities(model: Model, *, sees: bool) -> list[str]:
    """Return what a model can do, in Ollama's words: editors offer those alone for what they are about to do."""
    told = [_CAPABILITIES.get(each, each) for each in model.capabilities]
    if "text-gen" in model.capabilities:
        told += [name for name in _OF_TEMPLATES if name in model.template_knows]
    return [*told, "vision"] if sees else told


def details(model: Model | None) -> Details:
    """Return what a model file is; of one that no host has (any more), nothing."""
    if model is None:
        return Details(family="", families=[], parameter_size="", quantization_level="")
    return Details(
        family=model.architecture,
        families=[model.architecture],
        parameter_size="" if model.parameters is UNSET else size_of(model.parameters),
        quantization_level=model.quantization,
    )


def size_of(parameters: int) -> str:
    """Return a number of parameters as people say it: 1.1B."""
    for step, letter in _STEPS:
        if parameters >= step:
            return f"{parameters / step:.1f}{letter}"
    return str(parameters)


def digest(ref: str) -> str:
    """Return the digest of a reference: the same for the same file, on every host."""
    return hashlib.sha256(ref.encode()).hexdigest()


def progress(download: Download) -> Progress:
    """Return where a download is."""
    if download.state == "verifying":
        return Progress(status="verifying sha256 digest")
    if download.state in {"planned", "queued", "looking"}:
        return Progress(status="pulling manifest")
    name = f"sha256:{digest(download.model_ref)}"
    return Progress(
        status=f"pulling {name[7:19]}", digest=name, total=download.bytes_total, completed=download.bytes_done
    )


def host(devices: Mapping[str, Iterable[Device]]) -> list[str]:
    """Return the pools in the order in which they are asked to fetch a model: those with most free memory first."""
    free = {pool: max((device.memory_free_bytes for device in found), default=0) for pool, found in devices.items()}
    return sorted(free, key=lambda pool: (-free[pool], pool))
