"""How a command reaches another host: which way, as which command line, and what ssh meant when it failed. Pure."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llorch.errors import InvalidConfiguration
from llorch.settings import Host

Via = Literal["http", "ssh"]
CONNECT_TIMEOUT_S = 10
ALIVE_S, ALIVE_TIMES = 15, 3
"""How often a host has to show that it is still there, and how often it may miss that."""
PATH = 'PATH="$PATH:$HOME/.local/bin"'
SSH_FAILED, NOT_FOUND, WRONG_USE = 255, 127, 2
# With a value each. Which host and which way is settled here, and a file of this machine says nothing about that one.
OWN_OPTIONS = ("--host", "--via", "--config")


@dataclass(frozen=True, slots=True)
class Target:
    """A host: `url` is its pool's address or empty, `destination` what ssh is given."""

    name: str
    url: str
    destination: str


def target(name: str, hosts: Mapping[str, Host], source: str) -> Target:
    """Return the host called *name*; without `ssh` of its own, ssh is given the name.

    Raises:
        InvalidConfiguration: *source* names no such host; the message has near names and the command that adds it.
    """
    if name not in hosts:
        near = difflib.get_close_matches(name, hosts, n=3)
        known = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(hosts) or 'none'};"
        where = f" in {source}" if source else ""
        raise InvalidConfiguration(f"there is no host {name!r}{where}; {known} to add it: llorch hosts add {name}")
    return Target(name, hosts[name].url.rstrip("/"), hosts[name].ssh or name)


def way(host: Target, via: Via | None, *, answers: bool) -> Via:
    """Return how to reach *host*: as *via* says, else over HTTP when its pool answers, else over ssh.

    Raises:
        InvalidConfiguration: HTTP is demanded, and the host has no address for it.
    """
    if via == "http" and not host.url:
        raise InvalidConfiguration(
            f"host {host.name} has no url, so its pool cannot be asked over HTTP; "
            f"add one to [hosts.{host.name}], or leave out --via"
        )
    return via or ("http" if answers else "ssh")


def forwarded(arguments: Sequence[str]) -> list[str]:
    """Return *arguments* without what concerns this side alone, for the same command on the other host."""
    kept: list[str] = []
    left = iter(arguments)
    for word in left:
        if word == "--":
            return [*kept, word, *left]
        if word in OWN_OPTIONS:
            next(left, None)
        elif not word.startswith(tuple(f"{option}=" for option in OWN_OPTIONS)):
            kept.append(word)
    return kept


def remote_command(words: Sequence[str]) -> str:
    """Return what the other host's shell is given: a single word as it is, several so that they arrive unchanged."""
    return words[0] if len(words) == 1 else _joined(words)


def llorch_command(arguments: Sequence[str]) -> str:
    """Return the line that runs `llorch` on the other host, also where only `hosts install` has put it."""
    return f"{PATH} {_joined(['llorch', *arguments])}"


def _joined(words: Sequence[str]) -> str:
    """Return words for a shell, also for zsh, a Mac's: it takes `=x` for the path of a command x."""
    return " ".join(
        f"'{word}'" if word.startswith("=") and shlex.quote(word) == word else shlex.quote(word) for word in words
    )


def ssh_argv(program: Sequence[str], destination: str, command: str, *, log: str, terminal: bool) -> list[str]:
    """Return the command line of ssh.

    Args:
        program: The user's ssh, with options where it has some.
        destination: What ssh is given as the host.
        command: For the shell of the other host.
        log: File for ssh's own messages, so that stderr carries those of the other host alone.
        terminal: Whether the command gets a terminal there; its stderr then comes out of our stdout.
    """
    settings = (
        "BatchMode=yes",
        f"ConnectTimeout={CONNECT_TIMEOUT_S}",
        f"ServerAliveInterval={ALIVE_S}",
        f"ServerAliveCountMax={ALIVE_TIMES}",
        "LogLevel=ERROR",
    )
    options = [part for setting in settings for part in ("-o", setting)]
    return [*program, *(("-t",) if terminal else ()), *options, "-E", log, destination, "--", command]


def diagnosis(log: str, host: Target) -> str:
    """Return in one line why ssh failed and what to do about it, from what it wrote."""
    name, to = host.name, shlex.quote(host.destination)
    changed = re.search(r"Host key for (\S+) has changed", log)
    if changed or "REMOTE HOST IDENTIFICATION HAS CHANGED" in log:
        known = re.search(r"Offending \S+ key in (.+):\d+", log)
        forget = [*(("-f", known[1]) if known else ()), "-R", changed[1] if changed else host.destination]
        return (
            f"{name} shows another host key than it used to: it was set up anew, or another machine answers in its "
            f"place; if the new key is right: ssh-keygen {shlex.join(forget)}"
        )
    if re.search(r"Timeout, server .* not responding", log):
        return (
            f"the connection to {name} ({to}) was lost: nothing came from it for {ALIVE_S * ALIVE_TIMES} s; "
            "is it on, and is this machine still in the same network?"
        )
    lost = re.search(r"closed by remote host|Connection reset|Broken pipe", log)
    if lost:
        return f"the connection to {name} ({to}) was lost: {lost[0].lower()}; try again, or look why with: ssh {to}"
    for sign, meaning in (
        ("Host key verification failed", f"its host key is not known here; compare and accept it once with: ssh {to}"),
        ("Permission denied", f"it refused our key; let it in with: ssh-copy-id {to}"),
        ("Too many authentication failures", f"it refused our keys; name the right one in ~/.ssh/config for {to}"),
        ("timed out", f"no answer within {CONNECT_TIMEOUT_S} s; is it on, and does its firewall let ssh in?"),
        ("Connection refused", "nothing listens for ssh there; start sshd, or correct the port in ~/.ssh/config"),
        (
            "Could not resolve hostname",
            f"the name is unknown; give another with: llorch hosts remove {name}, hosts add",
        ),
        ("No route to host", "there is no way to it; is it on, and is this machine in the same network?"),
        ("Network is unreachable", "there is no way to it; is this machine connected?"),
    ):
        if sign in log:
            return f"ssh cannot reach {name} ({to}): {meaning}"
    said = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "")
    if not said:
        return f"the command on {name} ended without a status: it was killed there, or the connection was lost"
    return f"ssh cannot reach {name} ({to}): {said}; try: ssh {to}"


def last_line(told: str) -> str:
    """Return the last line that says something: before it may stand what the other host's shell prints when it starts.

    Whoever asks has an `echo` before the answer, for what has no line feed.
    """
    return next((line.strip() for line in reversed(told.splitlines()) if line.strip()), "")


def missing(host: Target) -> str:
    """Return what to say when the other host's shell does not find `llorch`."""
    to = shlex.quote(host.destination)
    return (
        f"{host.name} has no llorch, neither in the PATH of its non-interactive shell nor in ~/.local/bin; "
        f'copy it there with: llorch hosts install {host.name}, or scp "$(command -v llorch)" {to}:.local/bin/'
    )


def other_version(host: Target, *, theirs: str, ours: str) -> str | None:
    """Return what to say when the other host's `llorch --version` is not ours, else None."""
    found = last_line(theirs)
    if found == ours or not found.startswith("llorch "):
        return None
    return (
        f"{host.name} has {found}, this is {ours}, so it may not know this command; "
        f"replace it with: llorch hosts upgrade {host.name}"
    )
