"""What `hosts install` and `upgrade` put on a host, from what is known of it; and the scripts for that. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from llorch.cli.remote import Target
from llorch.config import is_loopback, web_url
from llorch.config_file import with_value
from llorch.errors import InvalidConfiguration

PROGRAM = "$HOME/.local/bin/llorch"
CONFIG = "$HOME/.config/llorch/llorch.toml"
TOKEN = "$HOME/.config/llorch/token"
UNIT = "$HOME/.config/systemd/user/llorch-pool.service"
DAEMON = "/Library/LaunchDaemons/llorch.pool.plist"
"""What a Mac's owner gives launchd, as root, so that it keeps the pool running; see build/launchd."""
DAEMON_LOG = "$HOME/Library/Logs/llorch-pool.log"
LOG = "$HOME/.local/share/llorch/pool.log"
PID = "$HOME/.local/share/llorch/pool.pid"
DATA = "$HOME/.local/share/llorch/pool"
LINGER = "$HOME/.local/share/llorch/linger"
"""There if it was `hosts install` that has the user's services run on when the user has logged out."""
MOST_LINKS = 40
WRITTEN_BY_US = "# Written by llorch hosts install, and removed by llorch hosts remove --purge."

SHA256 = '{ sha256sum "$f" || shasum -a 256 "$f"; } 2>/dev/null | cut -c1-64'
LOOK = f"""
echo; echo "system=$(uname -s) $(uname -m)"; echo "name=$(uname -n)"
f="{PROGRAM}"; [ ! -f "$f" ] || echo "sha256=$({SHA256})"
systemctl --user show-environment >/dev/null 2>&1 && echo systemd=yes
[ ! -e "{DAEMON}" ] || echo launchd=yes
if [ -e "{CONFIG}" ]; then echo configuration:; cat "{CONFIG}"; fi
"""
VERSION = f'echo; "{PROGRAM}" --version'

YES = "yes"
# Without lingering the user's services end some seconds after the user's last session, which is ours.
MAY_LINGER = f"""
echo
on="/var/lib/systemd/linger/$(id -un)"
if [ ! -e "$on" ] && loginctl enable-linger >/dev/null 2>&1; then
  mkdir -p "$HOME/.local/share/llorch" && : >"{LINGER}"
fi
[ ! -e "$on" ] || echo {YES}
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What a host has: its system and machine, the hash of its llorch, a systemd for its user, its configuration.

    `configuration` is the text of the file, None where there is none; `launchd` tells that it keeps the pool running;
    `name` is what it calls itself.
    """

    system: str
    sha256: str
    systemd: bool
    configuration: str | None
    launchd: bool = False
    name: str = ""


def found(told: str) -> Found:
    """Return what `LOOK` has printed."""
    head, there, configuration = told.partition("configuration:\n")
    facts = dict(line.split("=", 1) for line in head.splitlines() if "=" in line)
    return Found(
        system=facts.get("system", ""),
        sha256=facts.get("sha256", ""),
        systemd="systemd" in facts,
        configuration=configuration if there else None,
        launchd="launchd" in facts,
        name=facts.get("name", ""),
    )


def refuse_other_systems(host: Target, *, theirs: str, ours: str) -> None:
    """Refuse a host that this executable does not run on.

    Raises:
        InvalidConfiguration: With what to do instead.
    """
    if theirs != ours:
        raise InvalidConfiguration(
            f"{host.name} is {theirs or 'of an unknown kind'}, and this executable is for {ours}; "
            f"build one on such a host with `make exe`, then: llorch hosts install {host.name} --executable FILE"
        )
    if not theirs.startswith(("Linux ", "Darwin ")):
        raise InvalidConfiguration(
            f"{host.name} is {theirs}; only Linux and macOS are installed from here, for others see docs/hosts.md"
        )


def refuse_broken(host: Target, configuration: str) -> None:
    """Refuse a configuration of *host* that its pool could not start with.

    Raises:
        InvalidConfiguration: It is not TOML.
    """
    try:
        tomllib.loads(configuration)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfiguration(
            f"the configuration of {host.name} ({CONFIG} there) is not TOML: {error}; nothing was changed there"
        ) from None


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


def orchestrator_in(configuration: str) -> str:
    """Return what the pool of such a configuration registers with; empty is nothing, or not to be read.

    The file is another host's and may be broken: the one who starts with it will say so.
    """
    named = pool_section(configuration).get("orchestrator")
    return named.rstrip("/") if isinstance(named, str) else ""


def to_be_asked(there: Found, configuration: str, *, token: str, our_name: str) -> str:
    """Return the orchestrator that can be asked from here whether it lets the host's pool in; empty where none can.

    Args:
        there: What the host has.
        configuration: What it is going to have.
        token: The one that is to be put there; empty is none.
        our_name: What this machine calls itself: only on the same one is a loopback address the same orchestrator.
    """
    if there.configuration is not None and not (token and _with_our_token(configuration)):
        return ""
    try:
        url = web_url(orchestrator_in(configuration), "the orchestrator")
    except InvalidConfiguration:  # whoever starts with it will say so
        return ""
    return "" if is_loopback(urlsplit(url).hostname or "") and there.name != our_name else url


def _with_our_token(configuration: str) -> bool:
    auth = tomllib.loads(configuration).get("auth")
    file = auth.get("token_file") if isinstance(auth, dict) else None
    return isinstance(file, str) and file.endswith(TOKEN.removeprefix("$HOME"))


def refusal(host: Target, *, orchestrator: str, token: str) -> str:
    """Return what to say when *orchestrator* does not let in who has *token*."""
    why = "refuses this token; check" if token else "asks for a token; set"
    return (
        f"the orchestrator at {orchestrator} {why} LLORCH_API_TOKEN or [auth] token_file; "
        f"nothing was changed on {host.name}"
    )


def data_folder(configuration: str) -> str:
    """Return the data directory of the pool of such a configuration, as a path for its shell between double quotes."""
    named = pool_section(configuration).get("data_dir")
    if not isinstance(named, str) or not named:
        return DATA
    home, rest = ("$HOME", named[1:]) if named.startswith("~") else ("", named)
    return home + re.sub(r'([\\"$`])', r"\\\1", rest)


def pool_section(configuration: str) -> dict[str, object]:
    """Return what a configuration says of the pool; empty is nothing, or not to be read."""
    try:
        pool = tomllib.loads(configuration).get("pool")
    except tomllib.TOMLDecodeError:
        return {}
    return pool if isinstance(pool, dict) else {}


def other_orchestrator(configuration: str | None, *, wanted: str) -> str | None:
    """Return what a host that is configured already registers with, if that is not *wanted*; else None."""
    if configuration is None:
        return None
    found = orchestrator_in(configuration)
    return None if found == wanted else found


def reconfigured(host: Target, configuration: str, *, orchestrator: str) -> str:
    """Return the host's configuration with another orchestrator; every other byte stays.

    Raises:
        InvalidConfiguration: It cannot be changed from here.
    """
    try:
        if "\ufffd" in configuration:
            raise InvalidConfiguration("not UTF-8")
        return with_value(configuration, ("pool", "orchestrator"), orchestrator)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"the configuration of {host.name} ({CONFIG} there): {error.message}") from None


def kept_out(host: Target, there: Found) -> str:
    """Return what to say of a pool that is no service although *there* has services; empty where it has none."""
    if there.systemd:
        advice = "for a service, have root allow it there (loginctl enable-linger USER)"
    elif there.system.startswith("Darwin "):
        advice = "for a service, which takes root there once, see docs/hosts.md"
    else:
        return ""
    return (
        f"the pool of {host.name} runs, but not as a service: nobody starts it again after a crash or a reboot; "
        f"{advice}, then: llorch hosts install {host.name}"
    )


def receive(path: str, *, mode: str = "600") -> str:
    """Return the script that makes stdin the file at *path* with that mode, all or nothing; *path* is for its shell."""
    return f"""
set -e
umask 077
mkdir -p "$(dirname "{path}")"
f="{path}.$$"
trap 'rm -f "$f"' EXIT
cat >"$f"
chmod {mode} "$f"
mv -f "$f" "{path}"
"""


def rewrite(path: str) -> str:
    """Return the script that does the same with a file of its owner's: a link stays one, and the mode what it was.

    Not every Mac's readlink follows all links by itself.
    """
    return f"""
set -e
umask 077
p="{path}"
n=0
while [ -L "$p" ]; do
  to=$(readlink "$p")
  case "$to" in /*) p="$to" ;; *) p="$(dirname "$p")/$to" ;; esac
  n=$((n + 1))
  if [ $n -gt {MOST_LINKS} ]; then echo "{path} is a link that leads nowhere" >&2; exit 1; fi
done
mkdir -p "$(dirname "$p")"
f="$p.$$"
trap 'rm -f "$f"' EXIT
if [ -e "$p" ]; then cp -p "$p" "$f"; chmod u+w "$f"; fi
cat >"$f"
[ ! -e "$p" ] || [ -w "$p" ] || chmod u-w "$f"
mv -f "$f" "$p"
"""
