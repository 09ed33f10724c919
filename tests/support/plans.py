"""What a chaos run will do, drawn from its seed alone: jobs, how they are read, and when what is broken. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from tests.support.transcripts import Habits

Fault = Literal["orchestrator", "pool", "worker", "engine", "freeze", "cut_clients", "cut_workers"]
WEIGHTS: dict[Fault, int] = {
    "orchestrator": 4,
    "pool": 2,
    "worker": 4,
    "engine": 2,
    "freeze": 4,
    "cut_clients": 6,
    "cut_workers": 4,
}
WORDS = "rain snow wind stone river mountain moon night summer winter leaf cloud".split()
SHAPING = ("model", "prompt", "max_tokens", "temperature", "stop")
STOPS = ["ka", "mo", "li", "zu"]


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One job and what its client does with it."""

    number: int
    at_s: float
    body: dict[str, Any]
    streamed: bool
    """Whether it is submitted for its events on the same connection."""
    submitters: int
    """So many submit it at once, under one key."""
    readers: Sequence[Habits]
    cancel_after_s: float | None = None

    @property
    def exact(self) -> bool:
        """Whether there is just one right text."""
        return bool(self.body["temperature"] == 0)

    @property
    def plain(self) -> dict[str, Any]:
        """What the one right text of an exact job depends on."""
        return {name: self.body[name] for name in SHAPING if name in self.body}

    @property
    def may_cancel(self) -> bool:
        """Whether somebody asks for its end, if only by leaving."""
        return self.cancel_after_s is not None or self.body.get("on_disconnect") == "cancel"


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """One thing that is broken at a time; `chance` chooses where."""

    at_s: float
    fault: Fault
    chance: float
    length_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run."""

    jobs: list[JobPlan] = field(default_factory=list)
    faults: list[FaultPlan] = field(default_factory=list)


def draw(seed: int, *, seconds: float, jobs: int, models: Sequence[tuple[str, int]]) -> Plan:
    """Draw a run.

    Args:
        seed: The same seed, the same plan.
        seconds: How long faults go on; jobs come in the first four fifths of it.
        jobs: How many there are.
        models: Their names, each with the most tokens to ask for.
    """
    random = Random(seed)
    exact = [_body(random, models, exact=True) for _ in range(12)]
    plans = [_job(random, number, exact, models=models, last_s=seconds * 0.8) for number in range(jobs)]
    faults, at_s = [], 2.0
    while at_s < seconds:
        [fault] = random.choices([*WEIGHTS], [*WEIGHTS.values()])
        faults.append(FaultPlan(at_s, fault, random.random(), random.uniform(0.1, 1.5)))
        at_s += random.uniform(0.6, 2.4)
    return Plan(sorted(plans, key=lambda plan: plan.at_s), faults)


def _body(random: Random, models: Sequence[tuple[str, int]], *, exact: bool) -> dict[str, Any]:
    model, most = random.choice(models)
    body: dict[str, Any] = {
        "model": model,
        "prompt": f"Write a haiku that contains the word {random.choice(WORDS)}",
        "max_tokens": random.randint(most // 4, most),
        "temperature": 0 if exact else round(random.uniform(0.1, 1.2), 2),
        "seed": random.getrandbits(64),
        "timeout_ms": 900_000,
    }
    if random.random() < 0.25:
        body["stop"] = random.sample(STOPS, random.randint(1, 2))
    return body


def _job(
    random: Random, number: int, exact: Sequence[dict[str, Any]], *, models: Sequence[tuple[str, int]], last_s: float
) -> JobPlan:
    body = dict(random.choice(exact)) if random.random() < 0.5 else _body(random, models, exact=False)
    body["priority"] = random.choice(["interactive", "interactive", "batch"])
    if random.random() < 0.6:
        body["session_id"] = random.choice("abcd")
    if random.random() < 0.08:
        body["timeout_ms"] = random.choice([1, 300, 1_500, 4_000])
    if random.random() < 0.1:
        body["on_disconnect"] = "cancel"
    return JobPlan(
        number=number,
        at_s=random.uniform(0, last_s),
        body=body,
        streamed=random.random() < 0.3,
        submitters=random.choice([1, 1, 1, 2, 3]),
        readers=[_habits(random) for _ in range(random.choice([1, 1, 2, 3]))],
        cancel_after_s=random.uniform(0, 4) if random.random() < 0.12 else None,
    )


def _habits(random: Random) -> Habits:
    return Habits(
        delay_s=random.choice([0.0, 0.0, random.uniform(0, 10)]),
        pause_s=random.choice([0.0, 0.0, 0.0, 0.02, 0.1]),
        leave_at=tuple(sorted(random.sample(range(1, 60), random.choice([0, 0, 1, 3])))),
        by_query=random.random() < 0.3,
    )
