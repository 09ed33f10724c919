"""aiohttp, imported without the system's certificates, and those for whoever needs them.

As aiohttp is imported it reads every certificate that the system trusts, which takes 40 to 80 ms: a tenth of a
worker's start, a third of a command's. Hardly any of our connections is encrypted. So aiohttp is imported here first,
with nothing to read, and who speaks HTTPS asks for `trusted`.
"""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

PLACES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@functools.cache
def trusted() -> ssl.SSLContext:
    """Return what verifies a server by the system's certificates, or those that `SSL_CERT_FILE` names."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    return context


@contextmanager
def _no_certificates() -> Iterator[None]:
    before = {place: os.environ.get(place) for place in PLACES}
    os.environ.update(dict.fromkeys(PLACES, os.devnull))
    try:
        yield
    finally:
        for place, value in before.items():
            if value is None:
                del os.environ[place]
            else:
                os.environ[place] = value


with _no_certificates():
    import aiohttp

__all__ = ["aiohttp", "trusted"]
