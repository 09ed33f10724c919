"""The settings tree: one frozen type a section, with every key, its default, and what it may be. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from llorch.policy import KeepAlive, ModelPolicy

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(ge=0, le=30 * 86_400)]
_PORT = r"(0*[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])"
_HOST = r"(\[[0-9A-Fa-f:]+(\.\d{1,3}){0,3}(%[\w.-]+)?\]|[^\s/?#@:\[\].]{1,63}(\.[^\s/?#@:\[\].]{1,63})*\.?)"
Url = Annotated[
    str,
    Meta(
        pattern=rf"^(https?://([^\s/?#@]+@)?{_HOST}(:{_PORT})?/?)?$(?!\n)",
        description="a URL such as http://host:8080",
    ),
]
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_IPV6 = r"(?=[^%:]*:[^%:]*:)[0-9A-Fa-f:]{2,39}(\.\d{1,3}){0,3}(%[A-Za-z0-9_-]{1,15}(\.\d{1,4})?)?"
Address = Annotated[
    str,
    Meta(
        pattern=rf"^(?=.{{1,253}}$)({_LABEL}(\.{_LABEL})*\.?|{_IPV6})$(?!\n)",
        description="an address such as 0.0.0.0 or ::1, or a host's name",
    ),
]
Origin = Annotated[
    str,
    Meta(
        pattern=r"^(?!https?:///?$|([^*]*\*){4})(\*|null|(?i:[a-z][a-z0-9+.-]{0,31})://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._*-]*)"
        rf"(:(\*|{_PORT}))?/?)$(?!\n)",
        max_length=300,
        description="an origin such as https://chat.example:8443, https://*.example or app://*, or * for all",
    ),
]
ServedModel = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f]{1,512}$(?!\n)", description="what the server calls the model")
]

Section = msgspec.Struct
SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Orchestrator(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[orchestrator]`. `queue_capacity` -1 is unbounded; `data_dir` empty is the user's data directory.

    `keep_alive_s` is how long a worker without jobs is kept, for models without a section of their own.
    `prefix_affinity` has a worker go on with the conversation whose beginning it has computed.
    """

    host: Address = "127.0.0.1"
    port: Port = 8080
    data_dir: str = ""
    queue_capacity: Annotated[int, Meta(ge=-1, le=100_000_000)] = 10_000
    max_body_bytes: Annotated[int, Meta(ge=1024, le=2**31)] = 16 * 1024 * 1024
    heartbeat_interval_s: Annotated[float, Meta(gt=0, le=3600)] = 15.0
    drain_s: Seconds = 30.0
    start_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    stall_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    cancel_grace_s: Annotated[float, Meta(ge=0, le=600)] = 5.0
    keep_alive_s: KeepAlive = 300.0
    prefix_affinity: bool = True
    output_retention_s: Seconds = 86_400.0
    purge_after_s: Seconds = 7 * 86_400.0


class Pool(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[pool]`. `advertise` is the address that the orchestrator is told; empty means the one bound.

    `reserve_bytes` of each device are left to other programs; `reserve` says it for single ones, by id or UUID. Its
    workers use at most `memory_limit_bytes` of each, 0 is no limit.
    `kv_snapshot_bytes` is what stopped workers may keep on disk of the prompts they computed; 0 keeps nothing.
    `git_repo` is the folder that `llorch pool git` works on.
    `keep_workers` leaves workers running when the pool is told to stop; `orphan_s` is how long a worker without jobs
    then waits for the next process of the pool.
    """

    host: Address = "127.0.0.1"
    port: Port = 9200
    data_dir: str = ""
    models_dir: str = ""
    pool_id: Annotated[
        str,
        Meta(
            pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$(?!\n)",
            description="up to 64 letters, digits, dots, underscores and hyphens",
        ),
    ] = ""
    orchestrator: Url = ""
    advertise: Url = ""
    reserve_bytes: Annotated[int, Meta(ge=0, le=2**50)] = 0
    memory_limit_bytes: Annotated[int, Meta(ge=0, le=2**50)] = 0
    reserve: Annotated[
        str,
        Meta(
            pattern=r"^\s*([^\s=,]+\s*=\s*\d{1,16}\s*(,\s*[^\s=,]+\s*=\s*\d{1,16}\s*)*)?$(?!\n)",
            description="device = bytes, separated by commas, such as cuda:0=8000000000, cpu=4000000000",
        ),
    ] = ""
    git_repo: str = ""
    models_budget_bytes: Annotated[int, Meta(ge=0, le=2**60)] = 0
    downloads_at_once: Annotated[int, Meta(ge=1, le=64)] = 2
    kv_snapshot_bytes: Annotated[int, Meta(ge=0, le=2**60)] = 0
    ready_timeout_s: Seconds = 60.0
    stop_grace_s: Seconds = 30.0
    drain_s: Seconds = 30.0
    keep_workers: bool = False
    orphan_s: Annotated[float, Meta(gt=0, le=30 * 86_400)] = 600.0


class Worker(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[worker]`. `ctx` is one slot's context in tokens, 0 the model's own up to 8192; `threads` 0 is one a core."""

    host: Address = "127.0.0.1"
    port: Port = 0
    slots: Annotated[int, Meta(ge=1, le=256)] = 4
    ctx: Annotated[int, Meta(ge=0, le=2**24)] = 0
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    batch: Annotated[int, Meta(ge=16, le=8192)] = 128
    reattach_s: Seconds = 60.0


class Auth(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[auth]`. `LLORCH_API_TOKEN` goes before `token_file`, which must be readable by its owner alone.

    `origins` are those of web pages that may use this host's servers, beside those of this machine.
    """

    token_file: str = ""
    origins: tuple[Origin, ...] = ()


class Client(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[client]`: where the command line finds the orchestrator."""

    url: Url = ""


class Log(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log]`. `auto` writes for people on a terminal, JSON lines elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Host(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[hosts.NAME]`: a host whose pool `--host NAME` speaks to."""

    url: Url = ""
    ssh: str = ""


class Server(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[pool.servers.NAME]`: a server that is not llorch's and speaks OpenAI's API; NAME is ours.

    `url` is its base URL; `api_key_file` holds what it asks for. With a `command`, the pool's worker starts it when a
    job needs it, and `models` names its one model; `ready_timeout_s` is how long it may load without a word. Without
    one it runs by itself, and `models` empty are all that it lists. `slots` and `context` 0 are what it tells.
    `memory_bytes` of `device` are what the command takes.
    """

    url: Annotated[
        str,
        Meta(
            pattern=r"^(https?://[^\s/?#@]+(/[^\s?#]*)?)?$(?!\n)",
            max_length=512,
            description="a base URL such as http://host:8000/v1",
        ),
    ] = ""
    api_key_file: str = ""
    command: tuple[Annotated[str, Meta(min_length=1, max_length=4096)], ...] = ()
    models: tuple[ServedModel, ...] = ()
    slots: Annotated[int, Meta(ge=0, le=256)] = 0
    context: Annotated[int, Meta(ge=0, le=2**24)] = 0
    device: str = ""
    memory_bytes: Annotated[int, Meta(ge=0, le=2**50)] = 0
    ready_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 600.0


def server_problems(name: str, values: Mapping[str, object]) -> list[str]:
    """Return what is wrong with a server's keys that are each allowed, and with its name."""
    problems = []
    if not SERVER_NAME.fullmatch(name):
        problems.append("the name may have up to 64 letters, digits, dots, underscores and hyphens")
    if not values.get("url"):
        problems.append("url: missing, expected a base URL such as http://host:8000/v1")
    models = values.get("models")
    if values.get("command") and not (isinstance(models, list | tuple) and len(models) == 1):
        problems.append("models: expected the one model of the command")
    if bool(values.get("device")) != bool(values.get("memory_bytes")):
        problems.append("device, memory_bytes: expected both or neither")
    if values.get("device") and not values.get("command"):
        problems.append("device: expected a command beside it, which takes that memory")
    return problems


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole tree, plus what is not a key: the token and the file it all came from."""

    orchestrator: Orchestrator = Orchestrator()
    pool: Pool = Pool()
    worker: Worker = Worker()
    auth: Auth = Auth()
    client: Client = Client()
    log: Log = Log()
    hosts: dict[str, Host] = {}
    servers: dict[str, Server] = {}
    models: dict[str, ModelPolicy] = {}
    aliases: dict[str, str] = {}
    token: str = ""
    source: str = ""


SECTIONS: Mapping[str, type[Section]] = {
    "orchestrator": Orchestrator,
    "pool": Pool,
    "worker": Worker,
    "auth": Auth,
    "client": Client,
    "log": Log,
}
