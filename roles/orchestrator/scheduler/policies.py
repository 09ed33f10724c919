"""What the operator wants of models, by names that need not be pinned to a commit, and what those names mean. Pure.

A name at the revision `main` stands for every commit of its file, so that a worker stays one of its model when a newer
file comes. A tag, a branch or a short commit stands for what it was pinned to, which `learn` is told. Until then, a
model, or a file beside one, counts as meant if it is of that repository and path: no worker is replaced for a hub that
is away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from msgspec.structs import replace

from llorch.errors import InvalidRequest
from llorch.models import is_pinned, may_stand_for, stands_for
from llorch.policy import ModelPolicy
from llorch.wire.engine_options import files

MOST_KNOWN = 4_096
MOST_MEANT = 16
"""So many references that a name has meant are kept, the last ones."""


class Policies:
    """What is wanted of each model.

    Args:
        told: By reference; the revision, the file, or both may be left open.
        default: What holds for every other model.
    """

    def __init__(self, told: Mapping[str, ModelPolicy], default: ModelPolicy) -> None:
        self._told = told
        self._default = default
        self._known: dict[str, ModelPolicy] = {}
        beside = {name for policy in told.values() for name in files(policy)}
        self._meant: dict[bool, dict[str, tuple[str, ...]]] = {
            False: {name: () for name in told if _is_loose(name)},
            True: {name: () for name in sorted(beside) if _is_loose(name)},
        }

    def loose(self) -> Iterator[tuple[str, bool]]:
        """Yield the names that are not pinned, and whether each is of a file beside a model."""
        for beside, names in self._meant.items():
            yield from ((name, beside) for name in names)

    def learn(self, name: str, ref: str, *, beside: bool) -> bool:
        """Note that a name means *ref* now; tell whether that is news. Names that the operator did not use are none."""
        names = self._meant[beside]
        meant = names.get(name)
        if meant is None or meant[-1:] == (ref,):
            return False
        names[name] = (*(one for one in meant if one != ref), ref)[-MOST_MEANT:]
        self._known.clear()
        return True

    def meaning(self, name: str, *, beside: bool) -> str | None:
        """Return what a name meant last; None when that is not known yet."""
        meant = self._meant[beside].get(name)
        return meant[-1] if meant else None

    def of(self, model_ref: str) -> ModelPolicy:
        """Return what is wanted of a model; `min_replicas` holds for what its name means last, and no other commit."""
        known = self._known.get(model_ref)
        if known is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[model_ref] = self._find(model_ref)
        return known

    def wanted_always(self) -> list[str]:
        """Return the models that workers are wanted of without jobs, as far as their names are known to mean one."""
        wanted = (self._now(name) for name, policy in self._told.items() if policy.min_replicas)
        return [ref for ref in dict.fromkeys(wanted) if ref is not None]

    def means(self, name: str, ref: str) -> bool:
        """Tell whether *ref*, which a worker has beside its model, is what is wanted by a name that may be loose."""
        meant = self._meant[True].get(name)
        if meant is None:
            return name == ref
        return ref in meant or stands_for(name, ref) or (not meant and may_stand_for(name, ref))

    def _now(self, name: str) -> str | None:
        return self.meaning(name, beside=False) if name in self._meant[False] else name

    def _find(self, model_ref: str) -> ModelPolicy:
        name = next(self._names(model_ref), None)
        if name is None:
            return self._default
        least = [policy.min_replicas for one, policy in self._told.items() if self._now(one) == model_ref]
        return replace(self._told[name], min_replicas=max(least, default=0))

    def _names(self, model_ref: str) -> Iterator[str]:
        """Yield the names by which something is wanted of a model, the one that is most its own first."""
        if model_ref in self._told:
            yield model_ref
        loose = self._meant[False]
        yield from (name for name, meant in loose.items() if meant[-1:] == (model_ref,))
        yield from (name for name, meant in loose.items() if model_ref in meant)
        yield from (name for name in loose if _stands_for(name, model_ref))
        unknown = (name for name, meant in loose.items() if not meant)
        yield from (name for name in unknown if _stands_for(name, model_ref, by=may_stand_for))


def _is_loose(name: str) -> bool:
    try:
        return not is_pinned(name)
    except InvalidRequest:
        return False


def _stands_for(name: str, ref: str, by: Callable[[str, str], bool] = stands_for) -> bool:
    try:
        return by(name, ref)
    except InvalidRequest:  # a worker with other options than are wanted
        return False
