"""Which of a repository's files on the hub is the model that somebody means. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from llorch import checkpoint_files
from llorch.errors import InvalidRequest, ModelNotFound
from llorch.models import is_gguf, parts

_NO_MODEL = re.compile(r"(^|[._-])(mmproj|imatrix)", re.IGNORECASE)
PREFERRED = "q4_k_m"
"""The quantisation that is taken when a repository has several and none was named."""
SHOWN_FILES = 12


def choose(repo: str, files: Sequence[str]) -> str:
    """Return the model file of a repository when none was named: the only GGUF, else the one of Q4_K_M.

    Where it has no GGUF, it is a checkpoint's config.json.

    Args:
        repo: For the message.
        files: Every path in the repository.

    Raises:
        ModelNotFound: It has neither.
        InvalidRequest: It has several and no single one of them is preferred; the message lists them.
    """
    if not any(map(_is_model, files)):
        if checkpoint_files.has_one(files):
            return checkpoint_files.CONFIG
        raise ModelNotFound(
            f"hf:{repo} has no model that llorch runs: no GGUF file, and no config.json with model.safetensors",
            details={"near": []},
        )
    models = _models(repo, files)
    preferred = [f for f in models if PREFERRED in f.lower()] if len(models) > 1 else models
    if len(preferred) == 1:
        return preferred[0]
    raise InvalidRequest(
        f"hf:{repo} has several models; name one, as in hf:{repo}::file={models[0]}; it has: {_listed(models)}",
        details={"files": models},
    )


def of_quantisation(repo: str, quantisation: str, files: Sequence[str]) -> str:
    """Return the model file of a repository whose name tells that quantisation, such as Q4_K_M.

    Args:
        repo: For the message.
        quantisation: As a person writes it; case does not matter.
        files: Every path in the repository.

    Raises:
        ModelNotFound: It has no GGUF file, or none of that quantisation; the message lists those that it has.
        InvalidRequest: It has several; the message lists them.
    """
    models = _models(repo, files)
    told = re.compile(rf"(^|[^a-z0-9]){re.escape(quantisation.lower())}($|[^a-z0-9_])")
    found = [f for f in models if told.search(f.lower())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ModelNotFound(
            f"hf:{repo} has no model of that quantisation; it has: {_listed(models)}", details={"near": []}
        )
    raise InvalidRequest(
        f"hf:{repo} has several models of that quantisation; name one, as in hf:{repo}::file={found[0]}; "
        f"it has: {_listed(found)}",
        details={"files": found},
    )


def near(path: str, files: Sequence[str]) -> list[str]:
    """Return the model files whose names are nearest to *path*."""
    models = list(filter(is_gguf, files))
    close = difflib.get_close_matches(path.lower(), [f.lower() for f in models], n=3, cutoff=0.5)
    return [f for f in models if f.lower() in close]


def _models(repo: str, files: Sequence[str]) -> list[str]:
    """Return the model files among *files*, those in several parts by their first one."""
    models = sorted({parts(f)[0] for f in files if _is_model(f)})
    if not models:
        raise ModelNotFound(f"hf:{repo} has no GGUF file", details={"near": []})
    return models


def _is_model(file: str) -> bool:
    return is_gguf(file) and not _NO_MODEL.search(file)


def _listed(models: Sequence[str]) -> str:
    more = len(models) - SHOWN_FILES
    return ", ".join(models[:SHOWN_FILES]) + (f" and {more} more" if more > 0 else "")
