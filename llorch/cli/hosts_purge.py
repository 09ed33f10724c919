"""What `hosts remove --purge` takes from a host: what `hosts install` has put there, and its pool made. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from llorch.cli import hosts_plan as plan
from llorch.cli import hosts_pool_plan as pool_plan
from llorch.cli.figures import size
from llorch.cli.hosts_copy_plan import ALL_PARTS
from llorch.cli.hosts_plan import DATA, pool_section
from llorch.cli.remote import Target

OTHER_UNIT = "$HOME/.config/systemd/user/llorch-orchestrator.service"
OTHER_DAEMON = "/Library/LaunchDaemons/llorch.orchestrator.plist"
OLD_NAMES = "orchestratord pool-managerd llorch-candled llorch-pool pool-ctl llorch-ctl"
WORKER_ENDS_S = 45

LOOK = f"""
echo
[ ! -e "{plan.PROGRAM}" ] || echo program=yes
for part in {ALL_PARTS}; do [ ! -e "$part" ] || echo program=yes; done
[ ! -e "{plan.UNIT}" ] || echo unit=yes
[ ! -e "{DATA}" ] || echo "data=$(du -sk "{DATA}" | cut -f1)"
[ ! -e "{DATA}/models" ] || echo "models=$(du -sk "{DATA}/models" | cut -f1)"
for file in "{OTHER_UNIT}" "{OTHER_DAEMON}"; do [ ! -e "$file" ] || echo orchestrator=yes; done
if [ -e "{plan.CONFIG}" ]; then echo configuration:; cat "{plan.CONFIG}"; fi
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What is on a host: parts by name, sizes in bytes, and the text of its configuration, None without one."""

    program: bool
    unit: bool
    data_bytes: int | None
    models_bytes: int
    orchestrator: bool
    configuration: str | None

    @property
    def nothing(self) -> bool:
        """Whether none of it is there."""
        return not (self.program or self.unit) and self.data_bytes is None and self.configuration is None


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes, as paths for the host's shell, and what stays, in words."""

    goes: tuple[str, ...]
    stays: tuple[str, ...]


def found(told: str) -> Found:
    """Return what `LOOK` has printed."""
    head, there, configuration = told.partition("configuration:\n")
    facts = dict(line.split("=", 1) for line in head.splitlines() if "=" in line)
    return Found(
        program="program" in facts,
        unit="unit" in facts,
        data_bytes=int(facts["data"]) * 1024 if "data" in facts else None,
        models_bytes=int(facts.get("models", "0")) * 1024,
        orchestrator="orchestrator" in facts,
        configuration=configuration if there else None,
    )


def removal(there: Found) -> Removal:
    """Return what of *there* is removed: nothing that its owner has written or that an orchestrator there needs."""
    goes, stays = [plan.UNIT, plan.DAEMON_LOG, DATA, plan.LOG, plan.PID, plan.LINGER], []
    if there.orchestrator:
        stays.append("the executable, the configuration and the token, which the orchestrator there uses, too")
    else:
        goes += [plan.PROGRAM, plan.TOKEN]
        if there.configuration is None or there.configuration.startswith(plan.WRITTEN_BY_US):
            goes.append(plan.CONFIG)
        else:
            stays.append("~/.config/llorch/llorch.toml, which hosts install has not written")
    stays += [f"{folder}, which is named in its configuration" for folder in _other_folders(there.configuration or "")]
    return Removal(tuple(goes), tuple(stays))


def question(host: Target, there: Found) -> str:
    """Return what to ask before removing it."""
    data = size(there.data_bytes or 0)
    return f"Remove llorch from {host.name}, with {data} of data there ({size(there.models_bytes)} of it models)?"


def script(what: Removal, *, data: str) -> str:
    """Return the script that ends the pool, lets its workers finish, and removes *what*; *data* is its data directory.

    Nothing goes as long as another process uses its data. The pool ends first, so that nobody starts workers any more.
    Each worker is told to end as a pool would do it; it finishes what it can within its own drain time, and the rest of
    its jobs goes on at another host. Folders go when nothing is left in them.
    """
    files = " ".join(f'"{path}"' for path in what.goes)
    links = f"""
for name in {OLD_NAMES}; do
  link="$HOME/.local/bin/$name"
  [ "$(readlink "$link")" != "{plan.PROGRAM}" ] && [ "$(readlink "$link")" != llorch ] || rm -f "$link"
done
"""
    # The orchestrator's unit, which stays where the executable does, needs it as well.
    unlinger = f'[ ! -e "{plan.LINGER}" ] || loginctl disable-linger' if plan.PROGRAM in what.goes else ""
    # Only root can take it from launchd, which would start the pool again and again.
    unloaded = f"sudo launchctl bootout system/llorch.pool && sudo rm {plan.DAEMON}"
    folders = dict.fromkeys((data, DATA))
    return f"""
if [ -e "{plan.DAEMON}" ]; then echo "launchd keeps its pool running; first, there: {unloaded}" >&2; exit 1; fi
{pool_plan.ONE_AT_A_TIME}
{pool_plan.refuse_others(*folders)}
if [ -e "{plan.UNIT}" ]; then systemctl --user --quiet disable --now llorch-pool; fi
{pool_plan.end(*folders)}
{pool_plan.refuse_all(*folders)}
cd "{data}/workers" 2>/dev/null && for file in *.json; do
  [ -e "$file" ] || continue
  p=$(sed -n 's/.*"pid":\\([0-9][0-9]*\\).*/\\1/p' "$file")
  [ -n "$p" ] && words "$p" | grep -q -- "${{file%.json}}" || continue
  kill "$p" && running="$running $p"
done
cd "$HOME" || exit 1
n=0
for p in $running; do
  while [ $n -lt {WORKER_ENDS_S * 10} ] && kill -0 "-$p" 2>/dev/null; do n=$((n + 1)); sleep 0.1; done
  kill -9 "-$p" 2>/dev/null
done
set -e
{links if plan.PROGRAM in what.goes else ""}
{unlinger}
rm -rf {files} {ALL_PARTS}
if command -v systemctl >/dev/null; then systemctl --user daemon-reload >/dev/null 2>&1 || true; fi
rm -f "{pool_plan.LOCK}"
for folder in .local/share/llorch .local/share .local/bin .local .config/llorch \\
    .config/systemd/user/default.target.wants .config/systemd/user .config/systemd .config; do
  rmdir "$HOME/$folder" 2>/dev/null || true
done
"""


def pool_of(there: Found, host: Target) -> tuple[str, str]:
    """Return the orchestrator that the host's pool registers with, empty if none, and the pool's id there."""
    name = pool_section(there.configuration or "").get("pool_id")
    return plan.orchestrator_in(there.configuration or ""), name if isinstance(name, str) and name else host.name


def _other_folders(configuration: str) -> list[str]:
    pool = pool_section(configuration)
    return [str(pool[key]) for key in ("data_dir", "models_dir") if pool.get(key)]
