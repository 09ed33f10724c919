"""What every role says of itself. No I/O."""

from __future__ import annotations

from typing import Literal

import msgspec


class Health(msgspec.Struct, frozen=True):
    """`GET /health`: the process answers."""

    status: Literal["ok"]


class ReadyReply(msgspec.Struct, frozen=True):
    """`GET /ready`: whether it takes work now, and if not, why."""

    ready: bool
    reason: str = ""


class Version(msgspec.Struct, frozen=True):
    """`GET /v2/meta/version`."""

    version: str
    role: str


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v2/meta/capabilities`: what can be asked for, and the limits."""

    engines: list[str]
    priorities: list[str]
    aliases: dict[str, str]
    models: list[str]
    max_body_bytes: int
    max_timeout_ms: int
    queue_capacity: int
    slots: int
    slots_busy: int
