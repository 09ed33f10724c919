"""What a host may be called and how hosts are shown. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from llorch.cli.remote import Target, way
from llorch.errors import InvalidConfiguration
from llorch.settings import Host
from llorch.wire.codec import expectation

HOSTS = ("HOST", "REACHED BY", "POOL", "URL", "SSH")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DESTINATION = re.compile(r"[^\s\x00-\x1f\x7f-]\S*")


class HostSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A host as `hosts list --json` tells it: `answer_ms` is how long its pool took, else `reason` says why not."""

    name: str
    url: str
    ssh: str
    via: str
    answer_ms: float | None
    reason: str


def checked(name: str, *, url: str | None, ssh: str | None) -> dict[str, str]:
    """Return the keys of `[hosts.NAME]`; what is not given is left out.

    Raises:
        InvalidConfiguration: A name that would need quoting, an address that is none, or what ssh would take for an
            option.
    """
    if not _NAME.fullmatch(name):
        raise InvalidConfiguration(
            f"a host's name is up to 64 letters, digits, dots, underscores and hyphens, found {name!r}"
        )
    if ssh is not None and not _DESTINATION.fullmatch(ssh):
        raise InvalidConfiguration(f"--ssh is [user@]host or a Host of ~/.ssh/config, found {ssh!r}")
    values = {key: value for key, value in (("url", url), ("ssh", ssh)) if value is not None}
    for key, value in values.items():
        kind = next(field.type for field in msgspec.structs.fields(Host) if field.name == key)
        try:
            msgspec.convert(value, kind, strict=True)
        except msgspec.ValidationError as error:
            raise InvalidConfiguration(f"--{key}: found {value!r}, {expectation(error, kind)}") from None
    return values


def seen(host: Target, *, ms: float | None, reason: str) -> HostSeen:
    """Return how *host* is: its pool took *ms* to answer, or did not for a reason."""
    via = way(host, None, answers=ms is not None)
    answer_ms = None if ms is None else round(ms, 1)
    return HostSeen(name=host.name, url=host.url, ssh=host.destination, via=via, answer_ms=answer_ms, reason=reason)


def row(host: HostSeen) -> Sequence[str]:
    """Return a host's row under `HOSTS`."""
    why = host.reason.rpartition(" cannot be reached: ")[2]  # the address has a column of its own
    pool = why if host.answer_ms is None else f"answers in {host.answer_ms:.0f} ms"
    return (host.name, host.via, pool, host.url or "–", host.ssh)
