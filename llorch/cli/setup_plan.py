"""What `llorch dev setup` makes, and what is to be typed after it. Pure; it never replaces what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llorch.config import near_host

State = Literal["make", "there", "kept"]
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A folder, or a file with its text, that shall be there; one that is not *ours* may say what it likes."""

    path: Path
    what: str
    mode: int
    text: str | None = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """An item and what becomes of it: `kept` is a file of ours that is there with another text."""

    item: Item
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is set up: with *bind*, an address that others reach, beside everything else."""

    data_dirs: Sequence[Path]
    config_file: Path
    token_file: Path | None
    bind: str
    shell: str
    home: Path


def values(wish: Wish) -> dict[tuple[str, str], str]:
    """Return the keys that the configuration shall have, by section and name."""
    found = {("orchestrator", "host"): wish.bind, ("pool", "host"): wish.bind} if wish.bind else {}
    if wish.token_file is not None:
        found["auth", "token_file"] = str(wish.token_file)
    return found


def with_values(sample: str, wanted: Mapping[tuple[str, str], str]) -> str:
    """Return the sample configuration, in which keys stand as comments, with these ones set.

    Raises:
        KeyError: The sample does not have one of them.
    """
    left, section, lines = dict(wanted), "", []
    for line in sample.splitlines():
        if line.startswith("["):
            section = line.strip("[] ")
        name = line.removeprefix("# ").partition(" = ")[0]
        value = left.pop((section, name), None) if line.startswith("# ") else None
        lines.append(line if value is None else f"{name} = {_quoted(value)}")
    if left:
        raise KeyError(*left)
    return "\n".join(lines) + "\n"


# zsh reads the file at the first press of Tab, as the function that completes; what it defines is for the later ones.
_AT_ONCE = {"zsh": 'if [ "$funcstack[1]" = _llorch ]; then _llorch_completion "$@"; fi\n'}


def items(wish: Wish, env: Mapping[str, str], *, sample: str, token: str, completion: str) -> list[Item]:
    """Return everything that shall be there, in the order to make it."""
    folders = [Item(path=path, what="data, for you alone", mode=0o700) for path in wish.data_dirs]
    files = []
    if wish.token_file is not None:
        files.append(Item(path=wish.token_file, what="the token, for you alone", mode=0o600, text=token + "\n"))
    text = with_values(sample, values(wish))
    files.append(Item(path=wish.config_file, what="the configuration, with every key", mode=0o600, text=text))
    path = completion_file(wish.shell, wish.home, env)
    if path is not None:
        files.append(
            Item(
                path=path,
                what=f"completion for {wish.shell}",
                mode=0o644,
                text=f"{completion}\n{_AT_ONCE.get(wish.shell, '')}",
                ours=True,
            )
        )
    return [*folders, *files]


def completion_file(shell: str, home: Path, env: Mapping[str, str]) -> Path | None:
    """Return where a shell looks for the completion of a command, None for one that is not known."""
    data, config = (
        Path(env[name]) if env.get(name, "").startswith("/") else home / usual
        for name, usual in (("XDG_DATA_HOME", ".local/share"), ("XDG_CONFIG_HOME", ".config"))
    )
    return {
        "bash": data / "bash-completion" / "completions" / "llorch",
        "zsh": home / ".zfunc" / "_llorch",
        "fish": config / "fish" / "completions" / "llorch.fish",
    }.get(shell)


def step(item: Item, found: str | None) -> Step:
    """Return what becomes of an item where *found* is there: a file's text, empty for a folder, None for nothing."""
    if found is None:
        return Step(item, "make")
    return Step(item, "there" if not item.ours or found == item.text else "kept")


def next_lines(wish: Wish, configured: Mapping[tuple[str, str], str], *, hostname: str) -> list[str]:
    """Return what to type next, and first what is left to do by hand.

    Args:
        wish: What was set up.
        configured: What the configuration now says of the keys that it concerns.
        hostname: This machine's.
    """
    lines = []
    if wish.shell == "zsh":
        lines.append("in ~/.zshrc, before compinit: fpath+=~/.zfunc")
    wanted = values(wish)
    missing = [f"[{key[0]}] {key[1]} = {_quoted(wanted[key])}" for key in wanted if configured.get(key) != wanted[key]]
    if missing:
        lines.append(f"in {wish.config_file}, which was left as it is: {'; '.join(missing)}")
    if not wish.bind:
        return [*lines, "llorch demo", "llorch serve all", 'llorch jobs submit --model haiku --prompt "Hello"']
    near = near_host(wish.bind)
    far = hostname if wish.bind in EVERYWHERE else near
    return [
        *lines,
        "llorch serve orchestrator",
        f"llorch serve pool --orchestrator http://{near}:8080",
        "llorch hosts add NAME --url http://NAME:9200",
        f"llorch hosts install NAME --orchestrator http://{far}:8080",
    ]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
