"""The version of what the orchestrator and pools say to a worker, and what is done about another one. Pure.

It grows when a worker of the version before would misunderstand what it is told, or be misunderstood. A new field is
no reason, for unknown ones are ignored. Whatever changes, these stay, so that a worker of any version can be left to
finish and be ended: what `GET /health` tells (`WorkerHealth`), `POST /shutdown`, and that a worker without jobs ends by
itself when nobody asks for its health any more.
"""

from __future__ import annotations

PROTOCOL = 1
FIRST = 1
"""What speaks that does not say."""


def foreign(theirs: int, *, ours: int = PROTOCOL) -> bool:
    """Tell whether a worker, or the workers of a pool, speak another version."""
    return theirs != ours


def differs(theirs: int, *, whose: str, ours: int = PROTOCOL) -> str:
    """Return how versions differ: *whose*, as "the orchestrator", is ours."""
    return f"speaks version {theirs} of the workers' protocol, and {whose} version {ours}"


def remedy(theirs: int, *, pool_id: str, whose: str, ours: int = PROTOCOL) -> str:
    """Return what to do about a pool that speaks another version than *whose*: upgrade the older of them."""
    return f"llorch hosts upgrade {pool_id}" if theirs < ours else f"upgrade {whose}, and restart it"
