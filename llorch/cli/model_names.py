"""From what a person calls a model to what a pool calls it: aliases, references, ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llorch import models
from llorch.client import Client
from llorch.errors import Conflict, ModelNotFound
from llorch.hub import Pin, Pins
from llorch.models import own_name
from llorch.wire.models import DiskUsage, StoredModel
from llorch.wire.pools import ModelList


async def pinned(client: Client, name: str, aliases: Mapping[str, str], *, newest: bool = False) -> Pin:
    """Return what *name* means: on this pool where it has it (unless the *newest* is asked for), else on the hub.

    Raises:
        ModelNotFound: No such alias, repository, revision or file.
        Forbidden: It is private or gated.
        InvalidRequest: Several files could be meant.
        HubUnreachable: The pool does not have it, and the hub cannot be asked.
    """
    ref = models.resolve(name, aliases)
    if models.is_pinned(ref) and not newest:
        return Pin(ref)
    known = await client.send("GET", "/v2/models", ModelList)
    return await Pins().pin(ref, [(model.model_ref, model.added_ms) for model in known.models], newest=newest)


async def find(client: Client, name: str, aliases: Mapping[str, str]) -> StoredModel:
    """Return the model of a pool that *name* (an id, an alias or a reference) stands for, sound or not.

    Raises:
        ModelNotFound: It is not on that pool's disk, or there is no such name.
        Conflict: Several are meant; the message lists them.
    """
    stored = (await client.send("GET", "/v2/models/disk-usage", DiskUsage)).models
    return chosen(stored, name, aliases)


def chosen(stored: Sequence[StoredModel], name: str, aliases: Mapping[str, str]) -> StoredModel:
    """Return the one of *stored* that *name* stands for; raises as `find` does. Pure."""
    by_id = [model for model in stored if name in {model.model_id, model.model_ref}]
    if by_id:
        return by_id[0]
    ref = models.resolve(name, aliases)
    found = [model for model in stored if models.stands_for(ref, model.model_ref)]
    if not found:
        if own_name(ref):
            raise ModelNotFound(f"{name} is a server's model: nothing of it is on this pool's disk")
        raise ModelNotFound(f"{name} is not on this pool's disk; llorch pool models download {name} fetches it")
    if len(found) > 1:
        listed = ", ".join(f"{model.model_id} ({model.model_ref})" for model in found)
        raise Conflict(f"{name} can mean several models here; name one by its id: {listed}")
    return found[0]
