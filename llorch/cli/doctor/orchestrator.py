"""The checks of a running orchestrator: there, of this version, of this time, and with pools."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from llorch import __version__
from llorch.cli.doctor import renewal
from llorch.cli.doctor.result import Examined, Result, failed, ok
from llorch.cli.figures import duration
from llorch.client import Client
from llorch.config import client_url, is_loopback
from llorch.errors import InvalidConfiguration, LlorchError, Unreachable
from llorch.wire.meta import Version
from llorch.wire.operations import Overview
from llorch.wire.pools import Pool, PoolList

NAME = "orchestrator"
TIMEOUT_S = 5.0
MOST_SKEW_MS = 5_000


def orchestrator(examined: Examined) -> Sequence[Result] | Result:
    """Ask the orchestrator that this command line would use."""
    try:
        url = client_url(examined.settings, examined.url)
    except InvalidConfiguration as error:
        return failed(NAME, error.message, fix="unset LLORCH_URL")
    return asyncio.run(_ask(url, examined.settings.token))


async def _ask(url: str, token: str) -> Sequence[Result]:
    async with Client(url, token=token, what="the orchestrator") as client:
        try:
            told = await client.send("GET", "/v2/meta/version", Version, timeout_s=TIMEOUT_S)
            before_ms = time.time() * 1000
            overview = await client.send("GET", "/v2/queue?limit=1", Overview, timeout_s=TIMEOUT_S)
            after_ms = time.time() * 1000
            pools = (await client.send("GET", "/v2/pools", PoolList, timeout_s=TIMEOUT_S)).pools
        except LlorchError as error:
            return [_refused(url, error)]
    return [
        _version(url, told),
        _clock(overview.time_ms - (before_ms + after_ms) / 2, uncertain_ms=(after_ms - before_ms) / 2),
        *([_pool(pool, overview.time_ms) for pool in pools] or [_no_pool(url)]),
    ]


def _refused(url: str, error: LlorchError) -> Result:
    if error.code in {"MISSING_TOKEN", "INVALID_TOKEN"}:
        return failed(
            NAME, f"{url} refuses the token: {error.message}", fix="export LLORCH_API_TOKEN=$(cat TOKEN_FILE)"
        )
    host = urlsplit(url).hostname or ""
    near = is_loopback(host)
    if isinstance(error, Unreachable):
        return failed(NAME, error.message, fix="llorch serve orchestrator" if near else f"ssh {host} llorch dev doctor")
    return failed(NAME, f"{url} answers with {error.code}: {error.message}", fix="llorch --version")


def _version(url: str, told: Version) -> Result:
    if told.role != "orchestrator":
        return failed(NAME, f"{url} is a {told.role}, not an orchestrator", fix="unset LLORCH_URL")
    if told.version != __version__:
        found = f"{url} runs llorch {told.version}, this is {__version__}"
        return failed(NAME, found, fix=renewal.on(urlsplit(url).hostname or ""))
    return ok(NAME, f"{url} answers, llorch {told.version}")


def _clock(ahead_ms: float, *, uncertain_ms: float) -> Result:
    off_ms = max(0.0, abs(ahead_ms) - uncertain_ms)
    if off_ms > MOST_SKEW_MS:
        way = "ahead of" if ahead_ms > 0 else "behind"
        found = f"the orchestrator's is {duration(off_ms)} {way} this machine's"
        return failed("clock", found, fix="sudo timedatectl set-ntp true")
    return ok("clock", f"within {duration(off_ms + uncertain_ms)} of the orchestrator's")


def _pool(pool: Pool, now_ms: int) -> Result:
    name = f"pool {pool.pool_id}"
    seen = duration(now_ms - pool.last_seen_ms)
    if pool.status == "offline":
        fix = f"llorch pool status --pool-url {pool.endpoint}"
        return failed(name, f"offline: last heard of {seen} ago, at {pool.endpoint}", fix=fix)
    if pool.trouble:
        return failed(name, f"gets no work: {pool.trouble}", fix=pool.remedy)
    devices, workers = len(pool.devices), len(pool.workers)
    return ok(name, f"{pool.status}, {devices} devices, {workers} workers, heard of {seen} ago")


def _no_pool(url: str) -> Result:
    return failed("pools", "none has registered: jobs wait", fix=f"llorch serve pool --orchestrator {url}")
