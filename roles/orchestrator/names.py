"""What the name of a model means to this orchestrator: an alias resolved, a revision pinned to a commit."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TypeVar

from llorch import models, repo_files
from llorch.errors import CallerError, HubUnreachable
from llorch.hub import Pins, at_hand
from llorch.wire.engine_options import EngineOptions, files, renamed
from roles.orchestrator.fleet import Fleet

T = TypeVar("T", bound=EngineOptions)


class Names:
    """Turns names into references that can only mean one file.

    What a pool has is taken without asking the hub: a job for a model that is there needs no hub, and the model behind
    a name changes only when somebody downloads another one.

    Args:
        aliases: The user's names for models.
        fleet: Knows what pools have.
    """

    def __init__(self, aliases: Mapping[str, str], fleet: Fleet) -> None:
        self.aliases = aliases
        self._fleet = fleet
        self._pins = Pins()

    @property
    def known(self) -> Mapping[str, str]:
        """All names and what they stand for: aliases, and what servers call their models where that is no alias."""
        return {models.own_name(ref): ref for ref in self._fleet.served()} | self._aliases()

    def shown(self, ref: str) -> list[str]:
        """Return what people call a model: its aliases, else what its server calls it if that can mean no other."""
        own = models.own_name(ref)
        if aliases := models.aliases_of(ref, self.aliases):
            return aliases
        meant = [one for one in self._fleet.served() if models.own_name(one) == own] if own else []
        return [own] if meant == [ref] and own not in self._aliases() else []

    async def pinned(self, name: str, *, beside: bool = False) -> str:
        """Return the reference that *name* means now; *beside* a model, it may be of a file that is none by itself.

        Raises:
            ModelNotFound: No such alias, repository, revision or file, nor a server's model.
            Forbidden: It is private or gated; the message says what to set.
            InvalidRequest: It is no name, or several files could be meant.
            HubUnreachable: No pool has it, the hub cannot be asked, and it is no name of the operator's that has
                been pinned before.
        """
        ref = self._resolved(name)
        if models.is_pinned(ref):
            return ref
        try:
            found = (await self._pins.pin(ref, self._have(beside=beside))).ref
        except HubUnreachable as error:
            meant = self._fleet.supply.policies.meaning(ref, beside=beside)
            if meant is None:
                raise HubUnreachable(
                    f"{error.message}; no pool has the model either", retry_after_s=error.retry_after_s
                ) from None
            found = meant
        self._fleet.learn(ref, found, beside=beside)
        return found

    async def equipped(self, options: T) -> T:
        """Return *options* with references for the names of files; raises as `pinned` does."""
        refs = {name: await self.pinned(name, beside=True) for name in files(options)}
        return renamed(options, refs.__getitem__)

    def here(self, name: str, *, beside: bool = False) -> str:
        """Return the reference that *name* means among what pools have; itself resolved where they have none.

        Raises:
            ModelNotFound: No such alias.
            InvalidRequest: It is no name.
        """
        ref = self._resolved(name)
        return ref if models.is_pinned(ref) else at_hand(ref, self._have(beside=beside)) or ref

    async def quantised(self, repo: str, quantisation: str) -> str:
        """Return the name of the file of a repository that has a quantisation: of what pools have, else of the hub.

        Raises:
            LlorchError: As `pinned` does, and when no single file has it.
        """
        refs = [models.parse_ref(ref) for ref, _ in self._have()]
        paths = {ref.path for ref in refs if isinstance(ref, models.HubRef) and ref.repo == repo}
        with contextlib.suppress(CallerError):
            return f"hf:{repo}::file={repo_files.of_quantisation(repo, quantisation, sorted(paths))}"
        facts = await self._pins.facts(repo, models.DEFAULT_REVISION)
        return f"hf:{repo}::file={repo_files.of_quantisation(repo, quantisation, [file.path for file in facts.files])}"

    def _aliases(self) -> dict[str, str]:
        return {**models.BUILTIN_ALIASES, **self.aliases}

    def _resolved(self, name: str) -> str:
        known = name.startswith(models.SCHEMES) or name in self._aliases()
        return models.resolve(name, self.aliases, served=() if known else self._fleet.served())

    def _have(self, *, beside: bool = False) -> list[tuple[str, int]]:
        found = [model for pool in self._fleet.online() for model in pool.models.values()]
        return [(model.model_ref, model.added_ms) for model in found if beside or model.kind == "model"]
