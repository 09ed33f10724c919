"""What the orchestrator tells of the decisions that it has made. No I/O."""

from __future__ import annotations

from typing import Any

import msgspec


class DecisionLine(msgspec.Struct, frozen=True):
    """One decision: its kind, the model or job it is about, and why."""

    kind: str
    about: str
    text: str


class DecisionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided at once about one model; the same `digest`, the same facts it was decided on."""

    seq: int
    time_ms: int
    model_ref: str
    digest: str
    decisions: list[DecisionLine]


class DecisionList(msgspec.Struct, frozen=True):
    """The last decisions, oldest first."""

    decisions: list[DecisionSummary]


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions with all they were made from, as data: who decides on the snapshot again decides the same."""

    seq: int
    digest: str
    snapshot: dict[str, Any]
    decisions: list[dict[str, Any]]
