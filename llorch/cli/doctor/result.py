"""What a check is given and what it returns. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from llorch.settings import Settings

State = Literal["ok", "failed", "skipped"]


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one check found; a failed one has the command that fixes it."""

    check: str
    state: State
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What is examined: the settings that were read, and what the command line says in their place."""

    settings: Settings
    data_dir: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: its name, what does it, and whether that needs settings that could be read."""

    name: str
    run: Callable[[Examined], Result | Sequence[Result]]
    configured: bool = True


def ok(check: str, found: str) -> Result:
    """Say that all is well."""
    return Result(check=check, state="ok", found=found)


def failed(check: str, found: str, *, fix: str) -> Result:
    """Say what is wrong, and which command fixes it."""
    return Result(check=check, state="failed", found=found, fix=fix)


def skipped(check: str, why: str) -> Result:
    """Say why there was nothing to look at."""
    return Result(check=check, state="skipped", found=why)
