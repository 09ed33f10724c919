"""How an executable reaches a host although the connection breaks: what is there, where to go on, the scripts. Pure.

What has arrived is kept under a name that holds the executable's hash and the process that wrote it. The next copy
takes over as much of it as it has checked: the file itself where its process is gone, so that no second one has to fit;
else a copy of it, because a connection that only seems to be dead may still bring bytes to the old one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llorch.cli.hosts_plan import PROGRAM, SHA256

FOLDER = "$HOME/.local/bin"
ALL_PARTS = f'"{FOLDER}"/.llorch.*.part'
INCOMPLETE = 75
_PART = re.compile(r"part=(\d+) ([0-9a-f]{64}) (\.llorch\.[0-9a-f]{16}\.[a-z0-9.]+\.part)")
_ALIVE = 'alive() { kill -0 "$1" || [ -e "/proc/$1" ]; } 2>/dev/null'


@dataclass(frozen=True, slots=True)
class Part:
    """The beginning of an executable that a host has: its size and hash, and its name, which ends with its process."""

    size_bytes: int
    sha256: str
    name: str


def look(sha256: str) -> str:
    """Return the script that tells which parts of the executable with that hash there are."""
    return f"""
for f in "{FOLDER}"/.llorch.{_tag(sha256)}.*.part; do
  [ -s "$f" ] || continue
  echo "part=$(wc -c <"$f" | tr -d ' ') $({SHA256}) ${{f##*/}}"
done
"""


def parts(told: str) -> list[Part]:
    """Return what `look` has printed."""
    return [Part(int(size), sha256, name) for size, sha256, name in _PART.findall(told)]


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
    all arrives, that is kept, and the status is `INCOMPLETE`; what processes that are gone have left of this executable
    makes room before. Afterwards no part is left but those of other executables that are being copied. Whoever copies
    the same and loses its part by that has nothing left to do.
    """
    part = f"{FOLDER}/.llorch.{_tag(sha256)}"
    return f"""
set -e
umask 077
mkdir -p "{FOLDER}"
{_ALIVE}
give_up() {{
  if [ "$(f="{PROGRAM}"; {SHA256})" = {sha256} ]; then exit 0; fi
  [ -z "$1" ] || echo "$1" >&2
  exit 1
}}
f="{part}.$$.part"
o="{f"{FOLDER}/{begin.name}" if begin else ""}"
for p in "{part}".*.part; do
  w="${{p%.part}}"; w="${{w##*.}}"
  if [ "$p" != "$o" ] && {{ [ "$w" = $$ ] || ! alive "$w"; }}; then rm -f "$p"; fi
done
{_take_over(begin.size_bytes) if begin else ""}
cat >>"$f"
if [ -f "$f" ] && [ "$(wc -c <"$f")" -lt {size_bytes} ]; then exit {INCOMPLETE}; fi
trap 'rm -f "$f"' EXIT
[ "$({SHA256})" = {sha256} ] || give_up "what arrived is not what was sent"
{{ chmod 755 "$f" && "$f" --version >/dev/null && mv -f "$f" "{PROGRAM}"; }} || give_up
for f in {ALL_PARTS}; do
  p="${{f%.part}}"
  case "$f" in *.{_tag(sha256)}.*) rm -f "$f";; *) alive "${{p##*.}}" || rm -f "$f";; esac
done
"""


def _take_over(size_bytes: int) -> str:
    """Return the lines that make the first bytes of the file `$o` the file `$f`."""
    return f"""
w="${{o%.part}}"; w="${{w##*.}}"
if [ "$o" != "$f" ] && [ "$w" != $$ ] && alive "$w"; then
  head -c {size_bytes} "$o" >"$f" || {{ rm -f "$f"; give_up; }}
  rm -f "$o"
else
  [ "$o" = "$f" ] || mv "$o" "$f" || give_up
  dd if=/dev/null of="$f" bs=1 seek={size_bytes} count=0 2>/dev/null || {{ echo "$f cannot be cut" >&2; exit 1; }}
fi
"""


def _tag(sha256: str) -> str:
    return sha256[:16]
