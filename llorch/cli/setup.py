"""What `llorch dev setup` does: look at what is there, show what is missing, ask, make it; nothing is replaced."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path

import msgspec

import llorch
from llorch.cli import setup_plan as plan
from llorch.cli.setup_plan import Item, Step, Wish
from llorch.config import data_dir, expanded, is_loopback, load, user_file
from llorch.errors import InvalidConfiguration, LlorchError
from llorch.settings import Address, Settings

SAMPLE = Path(llorch.__file__).parent / "assets" / "llorch.toml"


class NotMade(LlorchError):
    """A file or folder could not be made; what was made before it stays."""

    code = "NOT_MADE"


def wish(*, config: str | None, bind: str | None, shell: str | None) -> Wish:
    """Return what this user shall have, from what is configured already.

    Raises:
        InvalidConfiguration: A file is named that says something wrong, or there is no home directory.
    """
    named = config or os.environ.get("LLORCH_CONFIG")
    missing = bool(named) and not expanded(named or "").exists()
    found = load("/dev/null" if missing else config)
    file = expanded(named) if named else Path(found.source) if found.source else user_file()
    outside = bind if bind and not is_loopback(bind) else ""
    if bind is not None:
        _check_bindable(bind)
    try:
        home = Path.home()
    except RuntimeError:
        raise InvalidConfiguration("there is no home directory: set HOME") from None
    return Wish(
        data_dirs=[data_dir(found.orchestrator, "orchestrator"), data_dir(found.pool, "pool")],
        config_file=file.absolute(),
        token_file=(file.absolute().parent / "token") if outside and not found.token else None,
        bind=outside,
        shell=shell or Path(os.environ.get("SHELL", "")).name,
        home=home,
    )


def steps(wanted: Wish) -> list[Step]:
    """Return what becomes of each thing that shall be there."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # imported there, not named

    known = wanted.shell in plan.SHELLS
    script = (
        get_completion_script(prog_name="llorch", complete_var="_LLORCH_COMPLETE", shell=wanted.shell) if known else ""
    )
    sample = SAMPLE.read_text("utf-8")
    made = plan.items(wanted, os.environ, sample=sample, token=secrets.token_urlsafe(32), completion=script)
    return [plan.step(item, _found(item)) for item in made]


def configured(found: Settings) -> dict[tuple[str, str], str]:
    """Return what the configuration says of the keys that a setup may want to set."""
    return {
        ("orchestrator", "host"): found.orchestrator.host,
        ("pool", "host"): found.pool.host,
        ("auth", "token_file"): found.auth.token_file,
    }


def make(found: Iterable[Step]) -> None:
    """Make what is missing; a file that has come meanwhile stays as it is.

    Raises:
        NotMade: One of them cannot be made.
    """
    for one in found:
        if one.state != "make":
            continue
        item = one.item
        try:
            if item.text is None:
                item.path.mkdir(mode=item.mode, parents=True, exist_ok=True)
                continue
            item.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(item)
        except OSError as error:
            raise NotMade(f"{item.path} cannot be made: {(error.strerror or str(error)).lower()}") from None


def _check_bindable(address: str) -> None:
    """Refuse what no role could listen on.

    Raises:
        InvalidConfiguration: It is no address of this machine.
    """
    try:
        family, kind, protocol, _, found = socket.getaddrinfo(
            msgspec.convert(address, Address), 0, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(found)
    except msgspec.ValidationError:
        why = ""
    except OSError as error:
        why = f": {(error.strerror or str(error)).lower()}"
    else:
        return
    raise InvalidConfiguration(f"--bind is an address of this machine, such as 0.0.0.0, found {address!r}{why}")


def _write(item: Item) -> None:
    """Write a new file, all of it or nothing."""
    try:
        number = os.open(item.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, item.mode)
    except FileExistsError:
        return
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(item.text or "")
    except OSError:
        item.path.unlink(missing_ok=True)
        raise


def _found(item: Item) -> str | None:
    """Return the text of a file that is there, empty for a folder, None where nothing is.

    Raises:
        NotMade: Something else is in its place, or it cannot be read.
    """
    try:
        if item.text is None:
            if item.path.exists() and not item.path.is_dir():
                raise NotMade(f"{item.path} is not a folder: move it away, or set another data_dir")
            return "" if item.path.exists() else None
        return item.path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotMade(f"{item.path} cannot be used: {(error.strerror or str(error)).lower()}") from None
