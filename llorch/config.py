"""One frozen settings tree for every role: flags > environment > TOML file > defaults, checked as a whole.

Every key `[section] key` has a variable `LLORCH_<SECTION>_<KEY>`, in which commas part a list. Reads one file; starts
nothing.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import socket
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from llorch.errors import InvalidConfiguration, InvalidRequest
from llorch.models import BUILTIN_ALIASES, parse_name
from llorch.policy import ModelPolicy, contradictions
from llorch.settings import SECTIONS, Host, Orchestrator, Pool, Section, Server, Settings, server_problems
from llorch.wire.codec import expectation
from llorch.wire.engine_options import scaled

SYSTEM_FILE = Path("/etc/llorch/llorch.toml")
DEFAULT_PORT = 8080

Overrides = Mapping[str, Mapping[str, object]]
_OWN_VARIABLES = {"LLORCH_CONFIG", "LLORCH_URL", "LLORCH_API_TOKEN", "LLORCH_EXE", "LLORCH_SSH", "LLORCH_WORKER_TOKEN"}


def load(
    path: str | None = None, *, env: Mapping[str, str] | None = None, overrides: Overrides | None = None
) -> Settings:
    """Read and check the whole configuration.

    Args:
        path: `--config`; else `LLORCH_CONFIG`, else the user's file, else the system's, else defaults alone.
        env: The environment; the process's own when absent.
        overrides: Flags by section and key; a value of None was not given.

    Raises:
        InvalidConfiguration: Anything is wrong: unreadable file, bad TOML, an unknown key, a value that is not
            allowed. The message names file, key, what was found and what is allowed, for every problem found.
    """
    env = os.environ if env is None else env
    file = _find(path, env)
    data = _read(file) if file else {}
    origin = str(file) if file else ""
    problems: list[str] = []
    built: dict[str, dict[str, object]] = {}
    pool = data.get("pool")
    servers = pool.pop("servers", {}) if isinstance(pool, dict) else {}
    for name, section in SECTIONS.items():
        built[name] = _section(name, section, data.pop(name, {}), origin, env, overrides or {}, problems)
    built["servers"] = _servers(servers, origin, problems)
    built["hosts"] = _hosts(data.pop("hosts", {}), origin, problems)
    aliases = built["aliases"] = _aliases(data.pop("aliases", {}), origin, problems)
    models = _models(data.pop("models", {}), aliases, origin, problems)
    for policy in models.values():
        policy.setdefault("keep_alive_s", built["orchestrator"].get("keep_alive_s", Orchestrator().keep_alive_s))
    built["models"] = {**models}
    known = [*SECTIONS, "hosts", "models", "aliases"]
    problems += [f"{origin}: [{key}]: unknown section{_near(key, known)}" for key in data]
    problems += _unknown_variables(env)
    if problems:
        raise InvalidConfiguration("configuration: " + "\n".join(problems))
    settings = msgspec.convert(built, Settings)
    return msgspec.structs.replace(settings, token=_token(settings.auth.token_file, env), source=origin)


def data_dir(settings: Orchestrator | Pool, role: str, env: Mapping[str, str] | None = None) -> Path:
    """Return where *role* keeps its state: `data_dir`, else the user's data directory."""
    if settings.data_dir:
        return expanded(settings.data_dir)
    env = os.environ if env is None else env
    base = env.get("XDG_DATA_HOME", "")
    root = Path(base) if base.startswith("/") else expanded("~/.local/share")
    return root / "llorch" / role


def pool_id(settings: Pool) -> str:
    """Return the pool's id: the configured one, else this host's name."""
    if settings.pool_id:
        return settings.pool_id
    name = socket.gethostname().partition(".")[0]
    clean = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name).lstrip("._-")
    return clean[:64] or "pool"


def client_url(settings: Settings, flag: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Return where the orchestrator is: `--url`, `LLORCH_URL`, `[client] url`, else where one of this host listens."""
    env = os.environ if env is None else env
    own = settings.orchestrator
    here = f"http://{near_host(own.host)}:{own.port or DEFAULT_PORT}"
    url = flag or env.get("LLORCH_URL") or settings.client.url or here
    return web_url(url, "the orchestrator")


def web_url(url: str, what: str) -> str:
    """Return the URL at which *what* is asked, without a slash at its end.

    Raises:
        InvalidConfiguration: It is none, or has no host or a port that there is not.
    """
    if not url.startswith(("http://", "https://")):
        raise InvalidConfiguration(f"{what}'s address must start with http:// or https://, found {url!r}")
    try:
        parts = urlsplit(url)
        right = (parts.hostname or "").encode("idna") and parts.port != 0 and not re.search(r"[\s?#]", url)
    except ValueError:  # brackets, a port, a label of a name
        right = False
    if not right:
        raise InvalidConfiguration(f"{what}'s address {url!r} is no URL, such as http://host:8080")
    return url.rstrip("/")


def expanded(path: str) -> Path:
    """Return a path whose `~` or `~name` is a home directory.

    Raises:
        InvalidConfiguration: There is no such home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = path.split("/", maxsplit=1)[0][1:]
        why = f"there is no user {user}" if user else "there is no home directory: set HOME"
        raise InvalidConfiguration(f"{path}: {why}") from None


def user_file(env: Mapping[str, str] | None = None) -> Path:
    """Return where the user's own configuration file is, or would be."""
    base = (os.environ if env is None else env).get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else expanded("~/.config")) / "llorch" / "llorch.toml"


def is_loopback(host: str) -> bool:
    """Tell whether *host* (an address to bind) can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def near_host(host: str) -> str:
    """Return what a URL names to reach, from this machine, who listens on *host*."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104


def _find(path: str | None, env: Mapping[str, str]) -> Path | None:
    named = path or env.get("LLORCH_CONFIG")
    if named:
        return expanded(named)
    return next(filter(_is_file, (user_file(env), SYSTEM_FILE)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise InvalidConfiguration(f"configuration: {path}: cannot be read: {error.strerror}") from None


def _read(file: Path) -> dict[str, object]:
    try:
        with file.open("rb") as opened:
            return tomllib.load(opened)
    except OSError as error:
        raise InvalidConfiguration(f"configuration: {file}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"configuration: {file}: not TOML: {error}") from None


def _section(  # noqa: PLR0913, PLR0917 - the four sources of a value, and where to tell of problems
    name: str,
    kind: type[Section],
    data: object,
    origin: str,
    env: Mapping[str, str],
    overrides: Overrides,
    problems: list[str],
) -> dict[str, object]:
    if not isinstance(data, dict):
        problems.append(f"{origin}: [{name}]: found {_shown(data)}, expected a section")
        data = {}
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    problems += [f"{origin}: [{name}] {key}: unknown key{_near(key, fields)}" for key in data if key not in fields]
    values: dict[str, object] = {}
    for key, field in fields.items():
        variable = f"LLORCH_{name}_{key}".upper()
        flag = overrides.get(name, {}).get(key)
        if flag is not None:
            value, source, strict = flag, f"--{key.replace('_', '-')}", True
        elif variable in env:
            value, source, strict = _of_variable(env[variable], field), variable, False
        elif key in data:
            value, source, strict = data[key], f"{origin}: [{name}] {key}", True
        else:
            continue
        try:
            values[key] = msgspec.convert(value, field.type, strict=strict)
        except msgspec.ValidationError as error:
            problems.append(f"{source}: found {_shown(value)}, {expectation(error, field.type)}")
    return values


def _of_variable(text: str, field: msgspec.structs.FieldInfo) -> str | list[str]:
    """Return what a variable says: of a list its parts, between commas."""
    if not isinstance(field.default, tuple):
        return text
    return [part.strip() for part in text.split(",") if part.strip()]


def _hosts(data: object, origin: str, problems: list[str]) -> dict[str, object]:
    if not isinstance(data, dict):
        problems.append(f"{origin}: [hosts]: found {_shown(data)}, expected sections [hosts.NAME]")
        return {}
    return {name: _section(f"hosts.{name}", Host, entry, origin, {}, {}, problems) for name, entry in data.items()}


def _servers(data: object, origin: str, problems: list[str]) -> dict[str, object]:
    if not isinstance(data, dict):
        problems.append(f"{origin}: [pool.servers]: found {_shown(data)}, expected sections [pool.servers.NAME]")
        return {}
    found = {n: _section(f"pool.servers.{n}", Server, entry, origin, {}, {}, problems) for n, entry in data.items()}
    for name, entry in data.items():
        told = entry if isinstance(entry, dict) else {}
        problems += [f"{origin}: [pool.servers.{name}] {text}" for text in server_problems(name, told)]
    return {**found}


def _models(
    data: object, aliases: Mapping[str, object], origin: str, problems: list[str]
) -> dict[str, dict[str, object]]:
    if not isinstance(data, dict):
        problems.append(f'{origin}: [models]: found {_shown(data)}, expected sections [models."NAME"]')
        return {}
    known = {**BUILTIN_ALIASES, **aliases}
    strange = [name for name in data if name not in known and not _is_ref(name)]
    problems += [f'{origin}: [models."{name}"]: no model is called that{_near(name, known)}' for name in strange]
    found = {n: _section(f'models."{n}"', ModelPolicy, e, origin, {}, {}, problems) for n, e in data.items()}
    problems += [f'{origin}: [models."{n}"] {text}' for n, values in found.items() for text in contradictions(values)]
    for name, values in found.items():
        for option, file in _files(values):
            if file not in known and not _is_ref(file):
                problems.append(f'{origin}: [models."{name}"] {option}: no model is called {file}{_near(file, known)}')
    return found


def _files(values: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the names of files among a model's options, each with that of its option."""
    lora = values.get("lora", ())
    told = [("lora", scaled(one)[0]) for one in lora] if isinstance(lora, tuple) else []
    return told + [(name, str(values[name])) for name in ("draft", "projector") if values.get(name)]


def _aliases(data: object, origin: str, problems: list[str]) -> dict[str, object]:
    if not isinstance(data, dict):
        problems.append(f'{origin}: [aliases]: found {_shown(data)}, expected NAME = "model reference"')
        return {}
    for name, ref in data.items():
        if not isinstance(ref, str) or not _is_ref(ref):
            allowed = "file:/absolute/path, hf:org/repo[@revision][::file=path] or server:NAME/MODEL"
            problems.append(f"{origin}: [aliases] {name}: found {_shown(ref)}, expected {allowed}")
    return data


def _is_ref(text: str) -> bool:
    try:
        parse_name(text)
    except InvalidRequest:
        return False
    return True


def _unknown_variables(env: Mapping[str, str]) -> list[str]:
    known = {f"LLORCH_{name}_{field}".upper() for name, kind in SECTIONS.items() for field in kind.__struct_fields__}
    prefixes = tuple(f"LLORCH_{name.upper()}_" for name in SECTIONS)
    ours = [v for v in env if v.startswith("LLORCH_") and v not in known | _OWN_VARIABLES]
    strange = [v for v in ours if v.startswith(prefixes) or difflib.get_close_matches(v, known, n=1, cutoff=0.85)]
    return [f"{variable}: unknown variable{_near(variable, known)}" for variable in sorted(strange)]


def secret(path: str) -> str:
    """Return what a file holds that its owner alone may read.

    Raises:
        InvalidConfiguration: Others can read it too, or it cannot be read, or holds no secret on one line.
    """
    file = expanded(path)
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise InvalidConfiguration(f"configuration: {file}: others can read the token; run: chmod 600 {file}")
        token = file.read_bytes().strip().decode("ascii", "replace")
    except OSError as error:
        raise InvalidConfiguration(f"configuration: {file}: cannot be read: {error.strerror}") from None
    if not token:
        raise InvalidConfiguration(f"configuration: {file}: holds no token")
    if not (token.isascii() and token.isprintable()):
        raise InvalidConfiguration(f"configuration: {file}: expected one token, of ASCII characters, on one line")
    return token


def _token(token_file: str, env: Mapping[str, str]) -> str:
    if token := env.get("LLORCH_API_TOKEN", "").strip():
        if not (token.isascii() and token.isprintable()):
            raise InvalidConfiguration("LLORCH_API_TOKEN: expected one token, of ASCII characters, on one line")
        return token
    return secret(token_file) if token_file else ""


def _near(key: str, known: object) -> str:
    near = difflib.get_close_matches(key, [str(name) for name in known], n=1)  # type: ignore[attr-defined]
    return f"; did you mean {near[0]}?" if near else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
