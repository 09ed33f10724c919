"""Configuration files, and what they are refused with."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.config import load
from llorch.errors import InvalidConfiguration


def refused(path: str | None, env: dict[str, str], overrides: dict[str, dict[str, object]] | None = None) -> list[str]:
    """Return the lines of the refusal, without what each begins with."""
    with pytest.raises(InvalidConfiguration) as raised:
        load(path, env=env, overrides=overrides)
    assert raised.value.message.startswith("configuration: ")
    return raised.value.message.removeprefix("configuration: ").splitlines()


def write(path: Path, text: str) -> str:
    """Write a configuration file; return its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)
