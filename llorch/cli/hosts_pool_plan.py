"""The scripts that end a host's pool, start it and ask it how it is; one command at a time changes it. Pure.

A pool is found by its process id, where an earlier call has written that down, and by the lock of its data directory,
whoever has started it. Everything else that holds the lock is not ours to end, and makes the script fail.
"""

from __future__ import annotations

import shlex

from llorch.cli.hosts_plan import LOG, PID, PROGRAM, UNIT, pool_section
from llorch.config import near_host
from llorch.settings import Pool
from llorch.wire.pools import PoolStatus

LOCK = "$HOME/.local/share/llorch/hosts.lock"
"""A link to nothing that bears the process id of the script that is at work on the pool."""
POOL_ENDS_S = 120
LOCK_PATIENCE_S = 180
HELD_MOMENT_S = 2
UPTIME_TOLERANCE_S = 1.0
ENDED = "ended: "
LAST_OF_JOURNAL = "journalctl --user -u llorch-pool -n 1 -o cat"

# A Mac has no /proc, and its ps cuts lines off without -ww.
WORDS = """words() { tr '\\0' ' ' <"/proc/$1/cmdline" || ps -ww -o args= -p "$1"; } 2>/dev/null"""

# A process that has ended is there until somebody takes note of that, which not every container's first process does.
ALIVE = """alive() { kill -0 "$1" && [ -n "$(words "$1")" ]; } 2>/dev/null"""

# Which processes have the lock of a data directory open: of these there are none but its pool, and who wants to be it.
HOLDERS = """
holders() {
  [ -e "$1/lock" ] || return 0
  if [ -e /proc/self/fd ]; then
    for h in /proc/[0-9]*/fd/*; do
      if [ "$h" -ef "$1/lock" ]; then h="${h#/proc/}"; echo "${h%%/*}"; fi
    done
  else
    lsof -t "$1/lock" || true
  fi
} 2>/dev/null
"""

_END = f"""
{ALIVE}
finish() {{
  kill "$1" 2>/dev/null || return 0
  n=0
  while [ $n -lt {POOL_ENDS_S * 10} ] && alive "$1"; do n=$((n + 1)); sleep 0.1; done
}}
"""

# Two at once would end each other's pools and note the wrong one. Who was killed meanwhile has left the lock behind.
ONE_AT_A_TIME = f"""
{WORDS}
mkdir -p "$HOME/.local/share/llorch" || exit 1
[ -w "$HOME/.local/share/llorch" ] || {{ echo "$HOME/.local/share/llorch cannot be written" >&2; exit 1; }}
l="{LOCK}"
n=0
until ln -s $$ "$l" 2>/dev/null; do
  o=$(readlink "$l" || true)
  if [ -n "$o" ]; then
    case "$(words "$o")" in
      *llorch*) ;;
      *) [ "$(readlink "$l")" != "$o" ] || rm -f "$l" ;;
    esac
  fi
  n=$((n + 1))
  if [ $n -ge {LOCK_PATIENCE_S * 10} ]; then
    echo "another command, process ${{o:-?}} there, is changing the pool, says $l" >&2
    exit 1
  fi
  sleep 0.1
done
trap 'rm -f "$l"' EXIT
"""


def refuse_others(*folders: str) -> str:
    """Return the lines that fail where anything but a pool is using a data directory, which is for the shell's "".

    They leave `holders` behind, and `$held`, the processes that it has found.
    """
    return f"""
{HOLDERS}
held=
for d in {_quoted(folders)}; do held="$held $(holders "$d")"; done
for p in $held; do
  w=$(words "$p" || true)
  case "$w" in
    '' | *'llorch serve pool'* | *pool-managerd*) ;;
    *) echo "process $p there is using the pool's data directory: ${{w% }}" >&2; exit 1 ;;
  esac
done
"""


def refuse_all(*folders: str) -> str:
    """Return the lines that fail where anything is using a data directory still, after `end` and a moment."""
    return f"""
for d in {_quoted(folders)}; do
  n=0
  while p=$(holders "$d") && [ -n "$p" ]; do
    n=$((n + 1))
    if [ $n -ge {HELD_MOMENT_S * 10} ]; then echo "process $p there is still using $d" >&2; exit 1; fi
    sleep 0.1
  done
done
"""


def end(*folders: str, also: str = "true") -> str:
    """Return the lines that end the pools of these data directories, after `refuse_others`. Their workers go on.

    Args:
        folders: The data directories.
        also: A command that prints the process id of a pool that has none yet.
    """
    return f"""
{refuse_others(*folders)}
{_END}
started=$(cat "{PID}" 2>/dev/null || true)
case "$(words "$started" || true)" in *'llorch serve pool'*) ;; *) started= ;; esac
started="$started $({also} || true)"
rm -f "{PID}"
for p in $started; do
  finish "$p"
  kill -9 "-$p" 2>/dev/null || true
done
for p in $held; do
  finish "$p"
  kill -9 "$p" 2>/dev/null || true
done
"""


def under_launchd(data: str) -> str:
    """Return the script that has launchd start the pool anew, as it does when one has ended; that takes no root."""
    return f"""
{ONE_AT_A_TIME}
set -e
{end(data, also=f'pgrep -o -u "$(id -u)" -f "{PROGRAM} serve pool"')}
"""


def under_systemd(data: str) -> str:
    """Return the script that has the user's systemd start the pool anew, in place of any other with its data."""
    return f"""
{ONE_AT_A_TIME}
set -e
{refuse_others(data)}
systemctl --user daemon-reload
systemctl --user enable --quiet llorch-pool
systemctl --user stop --quiet llorch-pool
{end(data)}
systemctl --user restart llorch-pool
"""


def alone(data: str) -> str:
    """Return the script that starts the pool anew in a session of its own, and notes its process id."""
    return f"""
{ONE_AT_A_TIME}
set -e
umask 077
{refuse_others(data)}
if [ -e "{UNIT}" ]; then
  systemctl --user disable --quiet --now llorch-pool 2>/dev/null || true
  rm -f "{UNIT}"
fi
{end(data)}
: >>"{LOG}"
chmod 600 "{LOG}"
cd "$HOME"
apart=setsid
command -v setsid >/dev/null || {{ apart=nohup; set -m 2>/dev/null || true; }}  # a Mac: a process group will do
LLORCH_POOL_KEEP_WORKERS=true "$apart" "{PROGRAM}" serve pool </dev/null >/dev/null 2>>"{LOG}" &
echo $! >"{PID}"
"""


def status_of(configuration: str) -> str:
    """Return the command that asks the pool of such a configuration, and nobody else, how it is."""
    told = pool_section(configuration)
    host, port = told.get("host"), told.get("port")
    near = near_host(host if isinstance(host, str) else Pool().host)
    url = f"http://{near}:{port if isinstance(port, int) else Pool().port}"
    return f'echo; "{PROGRAM}" pool status --json --pool-url {shlex.quote(url)}'


def status_of_alone(configuration: str) -> str:
    """Return the script that does the same as long as the pool that `alone` has started is there.

    If it is not, and nobody is about to start another, it prints `ENDED` and the last line of the pool's log.
    """
    return f"""
{WORDS}
{ALIVE}
told=$({status_of(configuration)})
p=$(cat "{PID}" 2>/dev/null || true)
echo
if [ -n "$p" ] && alive "$p"; then
  printf '%s\\n' "$told"
elif [ ! -L "{LOCK}" ] && [ "$p" = "$(cat "{PID}" 2>/dev/null || true)" ]; then
  echo "{ENDED}$({last_of_log(LOG)})"
fi
"""


def last_of_log(file: str) -> str:
    """Return the command that prints the last line of a log."""
    return f'tail -n 1 "{file}"'


def is_new(status: PoolStatus, *, since_s: float) -> bool:
    """Tell whether the pool that says this was started in the last *since_s* seconds, so that it is not an old one."""
    return status.uptime_s <= since_s + UPTIME_TOLERANCE_S


def _quoted(folders: tuple[str, ...]) -> str:
    return " ".join(f'"{folder}"' for folder in folders)
