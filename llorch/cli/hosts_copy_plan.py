"""How an executable reaches a host although the connection breaks: what is there, where to go on, the scripts. Pure.

What has arrived is kept under a name that holds the executable's hash and the process that wrote it. The next copy
takes over as much of it as it has checked, into a file of its own: a connection that only seems to be dead may still
bring bytes to the old one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llorch.cli.hosts_plan import PROGRAM, SHA256

FOLDER = "$HOME/.local/bin"
ALL_PARTS = f'"{FOLDER}"/.llorch.*.part'
INCOMPLETE = 75
_PART = re.compile(r"part=(\d+) ([0-9a-f]{64}) (\d+)")


@dataclass(frozen=True, slots=True)
class Part:
    """The beginning of an executable that a host has: its size and hash, and the process that wrote it."""

    size_bytes: int
    sha256: str
    pid: int


def look(sha256: str) -> str:
    """Return the script that tells which parts of the executable with that hash there are."""
    return f"""
for f in "{FOLDER}"/.llorch.{_tag(sha256)}.*.part; do
  [ -s "$f" ] || continue
  p="${{f%.part}}"
  echo "part=$(wc -c <"$f" | tr -d ' ') $({SHA256}) ${{p##*.}}"
done
"""


def parts(told: str) -> list[Part]:
    """Return what `look` has printed."""
    return [Part(int(size), sha256, int(pid)) for size, sha256, pid in _PART.findall(told)]


def best(there: Iterable[Part], *, size_bytes: int, sha256_of: Callable[[int], str]) -> Part | None:
    """Return the largest part that is how the executable begins; None if there is none to go on from.

    Args:
        there: What the host has.
        size_bytes: The executable's size.
        sha256_of: Returns the hash of so many of its first bytes.
    """
    for part in sorted(there, key=lambda part: part.size_bytes, reverse=True):
        if part.size_bytes <= size_bytes and sha256_of(part.size_bytes) == part.sha256:
            return part
    return None


def receive(sha256: str, *, size_bytes: int, begin: Part | None) -> str:
    """Return the script that makes the host's executable of *begin* and of stdin, which is all that follows it.

    It is put in its place at once and as a whole, after its hash is right and it has told its version. Where less than
    all arrives, that is kept, and the status is `INCOMPLETE`. Afterwards no part is left but those of other executables
    that are being copied.
    """
    part = f"{FOLDER}/.llorch.{_tag(sha256)}"
    taken = ""
    if begin is not None:
        taken = f"""
mv "{part}.{begin.pid}.part" "{part}.from.$$.part"
head -c {begin.size_bytes} "{part}.from.$$.part" >"$f"
rm -f "{part}.from.$$.part"
"""
    return f"""
set -e
umask 077
mkdir -p "{FOLDER}"
f="{part}.$$.part"
{taken}
cat >>"$f"
if [ -f "$f" ] && [ "$(wc -c <"$f")" -lt {size_bytes} ]; then exit {INCOMPLETE}; fi
trap 'rm -f "$f"' EXIT
if [ ! -f "$f" ] && [ "$(f="{PROGRAM}"; {SHA256})" = {sha256} ]; then exit 0; fi
[ "$({SHA256})" = {sha256} ] || {{ echo "what arrived is not what was sent" >&2; exit 1; }}
chmod 755 "$f"
"$f" --version >/dev/null
mv -f "$f" "{PROGRAM}"
for f in {ALL_PARTS}; do
  p="${{f%.part}}"
  case "$f" in *.{_tag(sha256)}.*) rm -f "$f";; *) [ -e "/proc/${{p##*.}}" ] || rm -f "$f";; esac
done
"""


def _tag(sha256: str) -> str:
    return sha256[:16]
