"""The servers that this host's configuration names: asked again and again what they have, and before a worker starts.

What a server has listed stays listed while it is away: jobs for its models wait, and a worker starts when it is back.
`added_ms` of its models tells since when it has been there, so that whoever had given up on them does not wait longer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from llorch import config, errors, log, models
from llorch.models import ServerRef
from llorch.server_facts import DEFAULT_CONTEXT, Card, of_model
from llorch.server_http import Away, Refusal, ServerHttp
from llorch.settings import Server
from llorch.wire.pools import Device, Model
from roles.pool.worker_lifecycle.preflight import is_called

ASKED_EVERY_S = 10.0
FIRST_PAUSE_S = 1.0
MAX_TOKEN_BYTES = 2**31 - 1
"""Nobody knows its tokens: no prompt is certainly too long before the server has counted it."""
KEY_REFUSED = frozenset({401, 403})
_log = log.get("pool.servers")


@dataclass(slots=True)
class _Found:
    """What a server said last, and since when it answers; 0 is that it does not."""

    cards: Sequence[Card] = ()
    since_ms: int = 0
    there: bool = False
    trouble: str = ""
    doubted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when somebody else could not reach it."""


class Servers:
    """The servers of this host. `run` is the one writer of what is known of them.

    Args:
        servers: By name.
        aliases: The user's names for models.
        changed: Called when the orchestrator should hear of something at once.
        clock_ms: Unix milliseconds.
    """

    def __init__(
        self,
        servers: Mapping[str, Server],
        aliases: Mapping[str, str],
        *,
        changed: Callable[[], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self._servers = servers
        self._aliases = aliases
        self._changed = changed
        self._clock_ms = clock_ms
        self._found = {name: _Found(since_ms=clock_ms()) for name in servers}

    async def run(self) -> None:
        """Watch the servers that run by themselves, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for name, server in self._servers.items():
                if not server.command:
                    tasks.create_task(self._watch(name, server), name=f"server {name}")

    def models(self, devices: Sequence[Device]) -> list[Model]:
        """Return the models that the servers have, or had when they answered last; *devices* are this host's."""
        return [
            on_device(model, devices)
            for name, server in self._servers.items()
            for model in listed(name, server, self._found[name].cards, self._aliases, self._found[name].since_ms)
        ]

    async def wanted(self, ref: ServerRef) -> Server:
        """Return the server of a model that a worker is to be started for; it has been asked now, if it runs by itself.

        Raises:
            ModelNotFound: No such server is configured here, or it does not have the model.
            Forbidden: It does not accept the key.
            Unreachable: It does not answer.
        """
        server = self._servers.get(ref.server)
        if server is None:
            raise errors.ModelNotFound(f"{ref}: no server of that name is in this pool's configuration")
        if server.models and ref.model not in server.models:
            raise errors.ModelNotFound(f"{ref}: the configuration does not name that model of the server")
        if server.command:
            return server
        try:
            cards = await _asked(ref.server, server)
        except errors.LlorchError:
            self._found[ref.server].doubted.set()
            raise
        if of_model(cards, ref.model) is None:
            raise errors.ModelNotFound(f"{ref}: the server does not list that model")
        return server

    async def _watch(self, name: str, server: Server) -> None:
        found, failures = self._found[name], 0
        while True:
            try:
                cards = await _asked(name, server)
            except errors.LlorchError as error:
                failures += 1
                if error.message != found.trouble:
                    _log.warning("server_away", server=name, reason=error.message)
                found.trouble, found.there = error.message, False
            else:
                failures = 0
                if not found.there or cards != found.cards:
                    _log.info("server_found", server=name, models=[card.id for card in cards][:20])
                    found.since_ms = max(self._clock_ms(), found.since_ms + 1)
                    found.cards, found.trouble, found.there = cards, "", True
                    self._changed()
            found.doubted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s(failures)):
                    await found.doubted.wait()
                    found.there = False
                    await asyncio.sleep(FIRST_PAUSE_S)


def pause_s(failures: int) -> float:
    """Return how long a server is left alone that has not answered so often in a row. Pure."""
    return min(FIRST_PAUSE_S * 2 ** min(failures - 1, 10), ASKED_EVERY_S) if failures else ASKED_EVERY_S


async def _asked(name: str, server: Server) -> list[Card]:
    """Return what a server lists, having read its key anew.

    Raises:
        InvalidConfiguration: The key cannot be read.
        Forbidden: It does not accept the key.
        Unreachable: It does not answer, or not as OpenAI's API does.
    """
    key = await asyncio.to_thread(config.secret, server.api_key_file) if server.api_key_file else ""
    try:
        async with ServerHttp(server.url, key=key, what=f"the server {name}") as http:
            return await http.cards()
    except Away as away:
        raise errors.Unreachable(away.message) from None
    except Refusal as refusal:
        if refusal.http_status in KEY_REFUSED:
            raise errors.Forbidden(
                f"the server {name} does not accept the key; see api_key_file of [pool.servers.{name}] in the "
                "configuration"
            ) from None
        raise errors.Unreachable(refusal.message) from None


def listed(
    name: str, server: Server, cards: Sequence[Card], aliases: Mapping[str, str], since_ms: int
) -> Iterator[Model]:
    """Yield the models of a server as others are told: those that are configured, else those that it lists. Pure."""
    for model in server.models or [card.id for card in cards]:
        try:
            ref = str(models.parse_ref(f"server:{name}/{model}"))
        except errors.InvalidRequest:
            continue  # a name with control characters in it
        card = of_model(cards, model)
        context = server.context or (card.context if card is not None else 0) or DEFAULT_CONTEXT
        yield Model(
            model_ref=ref,
            size_bytes=0,
            architecture="",
            quantization="",
            context_length=context,
            vocab_size=0,
            max_token_bytes=MAX_TOKEN_BYTES,
            aliases=models.aliases_of(ref, aliases),
            memory_bytes=server.memory_bytes,
            memory_slots=1,
            memory_ctx=context,
            model_id=models.model_id(ref),
            added_ms=since_ms,
            device=server.device,
        )


def on_device(model: Model, devices: Iterable[Device]) -> Model:
    """Return a server's model with its device as all others call it, and that one's kind. Pure."""
    device = next((one for one in devices if model.device and is_called(one, model.device)), None)
    return replace(model, device=device.id, backends=[device.backend]) if device is not None else model
