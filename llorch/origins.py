"""Which web pages may use a server, and under which names it is asked. Pure.

A browser lets any page send requests to this machine and to those around it. Two headers that no page can forge tell
who asks: `Origin`, whose page it is, and `Host`, by what name it was reached. A page that has its own name lead here
(DNS rebinding) has an `Origin` that is right, and a `Host` that is none of ours. What is no browser sends no `Origin`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from llorch.errors import HostNotAllowed, OriginNotAllowed
from llorch.settings import Settings

APPS = frozenset({"app", "file", "tauri", "vscode-file", "vscode-webview"})
"""Schemes of programs on the user's machine; no page on the web has one of them."""
LOCAL_NAMES = ("localhost", "local", "internal")
"""Nobody can register a name below these."""
REMEMBERED = 64
"""Requests come from few places, again and again."""
READS = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS = {"http": 80, "https": 443}
_HOST = r"(?P<host>\[[0-9a-z:.%_-]+\]|[a-z0-9._~%-]*)(:(?P<port>[0-9]{1,5})?)?"
_IS_HOST = re.compile(_HOST)
_IS_ORIGIN = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]*)://{_HOST}")
_LONGEST = 512
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Guests:
    """Whom a server expects.

    Attributes:
        origins: Those that the operator allows beside the ones of this machine; `*` in one stands for any characters,
            alone for all origins.
        names: Those that the server has beside the machine's own.
    """

    origins: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


ONLY_LOCAL = Guests()


@dataclass(frozen=True, slots=True)
class Call:
    """What a request says of who sends it; None is a header that is not there."""

    method: str
    host: str | None = None
    origin: str | None = None
    site: str | None = None
    """`Sec-Fetch-Site`."""


@dataclass(frozen=True, slots=True)
class _Place:
    scheme: str
    host: str
    port: int | None

    def spellings(self) -> list[str]:
        """Return the ways to write it, with and without the port that goes without saying."""
        bare, usual = f"{self.scheme}://{self.host}", _PORTS.get(self.scheme)
        if self.port is None:
            return [bare, *([f"{bare}:{usual}"] if usual else [])]
        return [f"{bare}:{self.port}", *([bare] if self.port == usual else [])]


def guests(settings: Settings) -> Guests:
    """Return whom the settings expect; every name is one that they themselves have for a role of this host."""
    urls = (settings.client.url, settings.pool.orchestrator, settings.pool.advertise)
    return Guests(settings.auth.origins, tuple(filter(None, (urlsplit(url).hostname for url in urls))))


def check(call: Call, expected: Guests, *, check_host: bool) -> None:
    """Refuse a request of a web page that may not use this server.

    Args:
        call: The request.
        expected: Whom it is there for.
        check_host: Whether only this machine is meant to reach it, and without a token: then a page whose own name
            leads here could read everything.

    Raises:
        HostNotAllowed: It was reached by a name that is none of its own.
        OriginNotAllowed: The page is neither the server's own, nor of this machine, nor one that the operator allows.
    """
    if check_host and not _is_ours(call.host, expected):
        raise HostNotAllowed(
            f"the request was sent to {_shown(call.host)}, which is no name of this machine; if you have given it that "
            "name, add it to [auth] origins, such as http://NAME, or set a token"
        )
    if call.origin is None:
        if call.site == "cross-site" and call.method not in READS and "*" not in expected.origins:
            raise OriginNotAllowed("a page of another site, which does not tell its origin, may not do that here")
    elif not _may_use(call.origin, call.host, expected):
        raise OriginNotAllowed(
            f"web pages of {_shown(call.origin)} may not use this server; if they are yours, add that origin to [auth] "
            "origins (LLORCH_AUTH_ORIGINS)"
        )


@lru_cache(maxsize=REMEMBERED)
def _may_use(origin: str, host: str | None, expected: Guests) -> bool:
    if "*" in expected.origins or origin in expected.origins:
        return True
    place = _place(origin)
    if place is None:
        return False
    return _is_local(place) or _is_same(place, host) or _is_listed(place, expected.origins)


def _place(origin: str) -> _Place | None:
    found = _IS_ORIGIN.fullmatch(origin.lower()) if len(origin) <= _LONGEST else None
    if found is None:
        return None
    scheme, host, port = found["scheme"], _undotted(found["host"]), found["port"]
    if (scheme in _PORTS and not host) or (port is not None and not 0 < int(port) < 2**16):
        return None
    return _Place(scheme, host, int(port) if port else None)


def _is_local(place: _Place) -> bool:
    """Tell whether only a program of the user's own machine can have served the page."""
    if place.scheme in APPS:
        return True
    if place.scheme not in _PORTS:
        return False
    address = _address(place.host)
    if address is not None:
        return address.is_loopback or address.is_unspecified
    return _is_below(place.host, ("localhost",))


def _is_same(place: _Place, host: str | None) -> bool:
    """Tell whether a page is the server's own. A proxy may speak TLS for it, so the scheme is the page's to say."""
    parts = _parts(host or "")
    if parts is None or place.scheme not in _PORTS:
        return False
    usual = _PORTS[place.scheme]
    return (place.host, place.port or usual) == (parts[0], parts[1] or usual)


def _is_listed(place: _Place, origins: Iterable[str]) -> bool:
    return any(_pattern(one).fullmatch(spelling) for one in origins for spelling in place.spellings())


def _pattern(origin: str) -> re.Pattern[str]:
    bare = origin if origin.endswith("://") else origin.removesuffix("/")
    return re.compile(re.escape(bare.lower()).replace(r"\*", "[^/]*"))


@lru_cache(maxsize=REMEMBERED)
def _is_ours(host: str | None, expected: Guests) -> bool:
    """Tell whether the server may be reached by that name; no name can be made to lead to an address."""
    if not host:  # only what is older than browsers sends none
        return True
    parts = _parts(host)
    if parts is None or not parts[0]:
        return False
    name = parts[0]
    if _address(name) is not None or _is_below(name, LOCAL_NAMES):
        return True
    if name in {_undotted(one.lower()) for one in expected.names}:
        return True
    return any(_is_listed(_Place(scheme, name, parts[1]), expected.origins) for scheme in _PORTS)


def _parts(host: str) -> tuple[str, int | None] | None:
    """Return name and port of a `Host` header."""
    found = _IS_HOST.fullmatch(host.lower()) if len(host) <= _LONGEST else None
    return (_undotted(found["host"]), int(found["port"]) if found["port"] else None) if found else None


def _undotted(name: str) -> str:
    """Return a name without the one dot that may end it."""
    return name.removesuffix(".")


def _is_below(name: str, tops: Iterable[str]) -> bool:
    return any(name == "localhost" or name.endswith(f".{top}") for top in tops)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host[1:-1] if host.startswith("[") else host)
    except ValueError:
        return None


def _shown(header: str | None) -> str:
    text = header or ""
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
