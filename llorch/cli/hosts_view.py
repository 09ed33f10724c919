"""What a host may be called and how hosts are shown. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from llorch.cli.remote import Target, way
from llorch.errors import InvalidConfiguration
from llorch.settings import Host
from llorch.wire.codec import expectation
from llorch.wire.pools import PoolStatus

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


class HostUpgraded(msgspec.Struct, frozen=True, kw_only=True):
    """What `hosts upgrade --json` tells: versions, whether the executable was another one, and the pool afterwards.

    `before` is empty where the old executable could not tell.
    """

    name: str
    before: str
    after: str
    replaced: bool
    workers_taken_over: int
    pool: PoolStatus

    @property
    def summary(self) -> str:
        """The same for people."""
        versions = f"llorch {self.before or 'that did not run'} → {self.after}"
        if not self.replaced:
            versions = f"has this llorch {self.after} already"
        elif self.before == self.after:
            versions += ", another build"
        number = self.workers_taken_over
        workers = f"took over {number} worker{'' if number == 1 else 's'}" if number else "had no workers"
        return f"{self.name}: {versions}; its pool was restarted, {workers}, and has registered again"


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


def upgraded(host: Target, pool: PoolStatus, *, before: str, replaced: bool) -> HostUpgraded:
    """Return what became of *host*, whose pool is *pool* now."""
    taken_over = sum(1 for worker in pool.workers if worker.adopted)
    return HostUpgraded(
        name=host.name,
        before=before,
        after=pool.version,
        replaced=replaced,
        workers_taken_over=taken_over,
        pool=pool,
    )


def row(host: HostSeen) -> Sequence[str]:
    """Return a host's row under `HOSTS`."""
    why = host.reason.rpartition(" cannot be reached: ")[2]  # the address has a column of its own
    pool = why if host.answer_ms is None else f"answers in {host.answer_ms:.0f} ms"
    return (host.name, host.via, pool, host.url or "–", host.ssh)
