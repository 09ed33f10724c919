"""What `hosts install` has to do on a host, from what is known of it; and the scripts that do it. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from llorch.cli.remote import Target
from llorch.config import is_loopback
from llorch.errors import InvalidConfiguration

PROGRAM = "$HOME/.local/bin/llorch"
CONFIG = "$HOME/.config/llorch/llorch.toml"
TOKEN = "$HOME/.config/llorch/token"
UNIT = "$HOME/.config/systemd/user/llorch-pool.service"
LOG = "$HOME/.local/share/llorch/pool.log"
PID = "$HOME/.local/share/llorch/pool.pid"

_SHA256 = '{ sha256sum "$f" || shasum -a 256 "$f"; } 2>/dev/null | cut -c1-64'
LOOK = f"""
echo "system=$(uname -s) $(uname -m)"
f="{PROGRAM}"; [ ! -f "$f" ] || echo "sha256=$({_SHA256})"
[ ! -e "{CONFIG}" ] || echo configured=yes
systemctl --user show-environment >/dev/null 2>&1 && echo systemd=yes
exit 0
"""

UNDER_SYSTEMD = """
set -e
loginctl enable-linger >/dev/null 2>&1 || true
systemctl --user daemon-reload
systemctl --user enable --quiet llorch-pool
systemctl --user restart llorch-pool
"""

# A pool that an earlier call has started is stopped first; its workers go on and are taken over.
ALONE = f"""
set -e
mkdir -p "$HOME/.local/share/llorch"
p=$(cat "{PID}" 2>/dev/null || true)
if [ -n "$p" ] && tr '\\0' ' ' <"/proc/$p/cmdline" 2>/dev/null | grep -q 'llorch serve pool'; then
  kill "$p"
  while kill -0 "$p" 2>/dev/null; do sleep 0.1; done
fi
cd "$HOME"
LLORCH_POOL_KEEP_WORKERS=true setsid "{PROGRAM}" serve pool </dev/null >/dev/null 2>>"{LOG}" &
echo $! >"{PID}"
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What a host has: its system and machine, the hash of its llorch, a configuration, a systemd for its user."""

    system: str
    sha256: str
    configured: bool
    systemd: bool


def found(told: str) -> Found:
    """Return what `LOOK` has printed."""
    facts = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    return Found(facts.get("system", ""), facts.get("sha256", ""), "configured" in facts, "systemd" in facts)


def refuse_other_systems(host: Target, *, theirs: str, ours: str) -> None:
    """Refuse a host that this executable does not run on.

    Raises:
        InvalidConfiguration: With what to do instead.
    """
    if theirs != ours:
        raise InvalidConfiguration(
            f"{host.name} is {theirs or 'of an unknown kind'}, and this executable is for {ours}; "
            "build one there with `make exe` and follow docs/hosts.md"
        )
    if not theirs.startswith("Linux "):
        raise InvalidConfiguration(
            f"{host.name} is {theirs}; only Linux is installed from here, for others see docs/hosts.md"
        )


def pool_settings(host: Target, *, orchestrator: str, token: str) -> dict[str, dict[str, object]]:
    """Return the configuration of the host's pool.

    Raises:
        InvalidConfiguration: The orchestrator would not find the pool, or everybody else would use it.
    """
    if not host.url:
        raise InvalidConfiguration(
            f"host {host.name} has no url, at which the orchestrator would reach its pool; "
            f'add url = "http://{host.name}:9200" to [hosts.{host.name}]'
        )
    parts = urlsplit(host.url)
    address = parts.hostname or ""
    if is_loopback(address):
        bind = address
    elif token:
        bind = "::" if ":" in address else "0.0.0.0"  # noqa: S104 - the token protects it
    else:
        raise InvalidConfiguration(
            "without a token anyone could use the host: set LLORCH_API_TOKEN or [auth] token_file"
        )
    port = parts.port or (443 if parts.scheme == "https" else 80)
    pool = {"host": bind, "port": port, "pool_id": host.name, "orchestrator": orchestrator, "advertise": host.url}
    return {"pool": pool, **({"auth": {"token_file": "~/.config/llorch/token"}} if token else {})}


def toml(settings: Mapping[str, Mapping[str, object]]) -> str:
    """Return sections of texts and whole numbers as TOML."""
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in section.items())
        for name, section in settings.items()
    )


def receive(path: str, *, sha256: str = "", mode: str = "600") -> str:
    """Return the script that makes stdin the file at *path*, all or nothing, if it has that hash."""
    check = f'[ "$({_SHA256})" = {shlex.quote(sha256)} ] || {{ echo "what arrived is not what was sent" >&2; exit 1; }}'
    return f"""
set -e
umask 077
mkdir -p "$(dirname "{path}")"
f="{path}.$$"
trap 'rm -f "$f"' EXIT
cat >"$f"
{check if sha256 else ""}
chmod {mode} "$f"
mv -f "$f" "{path}"
"""
