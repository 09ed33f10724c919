"""How a worker for a server's model is to be started: it takes no memory of its own; a server's command may. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from llorch.errors import BackendUnavailable, InsufficientMemory
from llorch.server_facts import DEFAULT_CONTEXT, DEFAULT_SLOTS
from llorch.settings import Server
from llorch.wire.engine_options import fields_of, options_of
from llorch.wire.pools import Device, SpawnWorker
from roles.pool.worker_lifecycle.preflight import Commitment, Plan, available, is_called


def plan_served(
    server: Server, request: SpawnWorker, *, devices: Sequence[Device], commitments: Sequence[Commitment]
) -> Plan:
    """Decide how to start a worker for a model of a server; where it is, the configuration says, and not the request.

    Raises:
        BackendUnavailable: Another engine or options of one were asked for, or the configured device is not there.
        InsufficientMemory: The configured device has not what the server's command takes.
    """
    if request.engine not in (UNSET, "openai"):
        raise BackendUnavailable("a model of a server runs on the engine openai alone")
    if told := fields_of(options_of(request)):
        raise BackendUnavailable(f"a model of a server does not have {', '.join(told)}: tell its server instead")
    slots, ctx = server.slots or DEFAULT_SLOTS, server.context or DEFAULT_CONTEXT
    patience_s = server.ready_timeout_s if server.command else 0.0
    if not server.device:
        return Plan("", "cpu", "openai", slots, ctx, 0, patience_s=patience_s)
    device = next((device for device in devices if is_called(device, server.device)), None)
    if device is None:
        here = ", ".join(device.id for device in devices)
        raise BackendUnavailable(f"the configuration names the device {server.device}; this host has {here}")
    free = available(device, commitments)
    if server.memory_bytes > free:
        raise InsufficientMemory(
            f"the server takes {server.memory_bytes} bytes of {device.id}, where {free} are free; stop another worker",
            details={"required_bytes": server.memory_bytes, "available_bytes": free, "device": device.id},
        )
    return Plan(device.id, device.backend, "openai", slots, ctx, server.memory_bytes, patience_s=patience_s)
