"""Configuration: which source wins, and one answer that names every problem."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from llorch.config import data_dir, load, pool_id
from llorch.errors import InvalidConfiguration
from llorch.policy import ModelPolicy
from llorch.settings import SECTIONS, Host, Orchestrator, Pool, Settings
from llorch.wire.pools import Register
from tests.support.refusing import refused, write

REFERENCES = "file:/absolute/path, hf:org/repo[@revision][::file=path] or server:NAME/MODEL"


def test_without_any_source_there_are_the_defaults(nowhere: dict[str, str]) -> None:
    settings = load(env=nowhere)

    assert settings == Settings()
    assert (settings.orchestrator.host, settings.orchestrator.port) == ("127.0.0.1", 8080)
    assert (settings.pool.host, settings.pool.port) == ("127.0.0.1", 9200)
    assert settings.orchestrator.queue_capacity == 10_000


def test_flags_go_before_the_environment_that_before_the_file_and_that_before_defaults(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", "[orchestrator]\nport = 1\nqueue_capacity = 1\ndrain_s = 1\n")
    env = {"LLORCH_ORCHESTRATOR_PORT": "2", "LLORCH_ORCHESTRATOR_QUEUE_CAPACITY": "-1"}
    flags = {"orchestrator": {"port": 3, "host": None}}

    found = load(file, env=env, overrides=flags).orchestrator

    assert found == Orchestrator(port=3, queue_capacity=-1, drain_s=1.0)


def test_every_key_has_a_variable(nowhere: dict[str, str]) -> None:
    chosen: dict[str, dict[str, object]] = {
        "orchestrator": {"host": "h", "port": 1, "data_dir": "/d", "queue_capacity": 2, "max_body_bytes": 2048}
        | {"heartbeat_interval_s": 3.5, "drain_s": 4.0, "output_retention_s": 5.0}
        | {"purge_after_s": 6.0, "start_timeout_s": 7.0, "stall_timeout_s": 8.0, "cancel_grace_s": 9.0}
        | {"keep_alive_s": 10.0, "prefix_affinity": False},
        "pool": {"host": "h", "port": 1, "data_dir": "/d", "models_dir": "/m", "pool_id": "p", "reserve_bytes": 7}
        | {"orchestrator": "http://o:1", "advertise": "https://a", "ready_timeout_s": 1.0, "stop_grace_s": 2.0}
        | {"drain_s": 3.0, "memory_limit_bytes": 8, "keep_workers": True, "orphan_s": 9.0, "reserve": "cpu=1"}
        | {"models_budget_bytes": 10, "downloads_at_once": 11, "git_repo": "/r", "kv_snapshot_bytes": 12},
        "worker": {"host": "h", "port": 1, "slots": 2, "ctx": 3, "threads": 4, "batch": 16, "reattach_s": 5.0},
        "auth": {"token_file": "", "origins": ("https://a.example", "app://*")},
        "client": {"url": "http://c"},
        "log": {"level": "debug", "format": "json"},
    }
    env = {
        f"LLORCH_{name}_{key}".upper(): ", ".join(v) if isinstance(v, tuple) else str(v)
        for name, values in chosen.items()
        for key, v in values.items()
    }

    settings = load(env=nowhere | env)

    assert {name: set(values) for name, values in chosen.items()} == {
        name: set(kind.__struct_fields__) for name, kind in SECTIONS.items()
    }
    assert {name: msgspec.to_builtins(getattr(settings, name)) for name in chosen} == chosen


def test_hosts_and_aliases_come_from_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.toml",
        '[hosts.blue]\nurl = "http://blue:9200"\n[hosts.red]\nssh = "me@red"\n[aliases]\nmine = "file:/m.gguf"\n',
    )

    settings = load(file, env={})

    assert settings.hosts == {"blue": Host(url="http://blue:9200"), "red": Host(ssh="me@red")}
    assert settings.aliases == {"mine": "file:/m.gguf"}
    assert settings.source == file


def test_every_problem_is_named_at_once_with_where_what_and_what_is_allowed(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.toml",
        """
        pool = 5
        [orchestrator]
        port = "8080"
        que_capacity = 1
        [worker]
        slots = 0
        [orchestratr]
        [hosts]
        blue = { urll = "http://b" }
        [aliases]
        mine = "/m.gguf"
        [log]
        level = "loud"
        """,
    )
    env = {"LLORCH_WORKER_CTX": "many", "LLORCH_WORKER_SLOT": "1"}

    lines = refused(file, env, {"client": {"url": "orchestrator"}})

    assert lines == [
        f"{file}: [orchestrator] que_capacity: unknown key; did you mean queue_capacity?",
        f"{file}: [orchestrator] port: found '8080', expected `int`, got `str`",
        f"{file}: [pool]: found 5, expected a section",
        f"{file}: [worker] slots: found 0, expected `int` >= 1",
        "LLORCH_WORKER_CTX: found 'many', expected `int`, got `str`",
        "--url: found 'orchestrator', expected a URL such as http://host:8080",
        f"{file}: [log] level: found 'loud', expected one of debug, info, warning, error",
        f"{file}: [hosts.blue] urll: unknown key; did you mean url?",
        f"{file}: [aliases] mine: found '/m.gguf', expected {REFERENCES}",
        f"{file}: [orchestratr]: unknown section; did you mean orchestrator?",
        "LLORCH_WORKER_SLOT: unknown variable; did you mean LLORCH_WORKER_SLOTS?",
    ]


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("LLORCH_ORCHESTRATOR_PORT", "65536", "found '65536', expected `int` <= 65535"),
        ("LLORCH_ORCHESTRATOR_PORT", "-1", "found '-1', expected `int` >= 0"),
        ("LLORCH_ORCHESTRATOR_PORT", "", "found '', expected `int`, got `str`"),
        ("LLORCH_ORCHESTRATOR_QUEUE_CAPACITY", "-2", "found '-2', expected `int` >= -1"),
        ("LLORCH_ORCHESTRATOR_HEARTBEAT_INTERVAL_S", "0", "found '0', expected `float` > 0.0"),
        ("LLORCH_ORCHESTRATOR_DRAIN_S", "nan", "found 'nan', expected `float` >= 0.0"),
        ("LLORCH_ORCHESTRATOR_DRAIN_S", "inf", "found 'inf', expected `float` <= 2592000.0"),
        ("LLORCH_POOL_RESERVE_BYTES", "1G", "found '1G', expected `int`, got `str`"),
    ],
)
def test_a_variable_that_is_not_allowed_is_refused(
    nowhere: dict[str, str], variable: str, value: str, problem: str
) -> None:
    assert refused(None, nowhere | {variable: value}) == [f"{variable}: {problem}"]


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "chat.example",
            "https://",
            "https:///",
            "http://a/b",
            "http://a b",
            "http://a?b",
            "http://u@a",
            "http://a:0",
        ),
        *("http://a:65536", "http://a:", "http://*.*.*.*", "http://bücher.example", "://a", "**", "nul", "http://[::1"),
        *("a\n", "http://a\n", ""),
    ],
)
def test_what_is_no_origin_is_named(nowhere: dict[str, str], origin: str) -> None:
    expected = "an origin such as https://chat.example:8443, https://*.example or app://*, or * for all"

    lines = refused(None, nowhere, {"auth": {"origins": ["http://a", origin]}})

    assert lines == [f"--origins: found {['http://a', origin]!r}, expected {expected}"]


def test_a_list_in_a_variable_is_parted_by_commas(nowhere: dict[str, str]) -> None:
    found = [load(env=nowhere | {"LLORCH_AUTH_ORIGINS": text}).auth.origins for text in ("", "*", " app://*,null , ,")]

    assert found == [(), ("*",), ("app://*", "null")]


def test_a_long_value_is_shown_short(nowhere: dict[str, str]) -> None:
    (line,) = refused(None, nowhere | {"LLORCH_WORKER_CTX": "x" * 500})

    assert line == "LLORCH_WORKER_CTX: found '" + "x" * 58 + "…, expected `int`, got `str`"


def test_variables_that_are_no_key_but_ours_are_not_refused(nowhere: dict[str, str]) -> None:
    ours = {"LLORCH_URL": "http://o", "LLORCH_EXE": "/x", "LLORCH_WORKER_TOKEN": "t", "LLORCH_API_TOKEN": "t"}

    assert load(env=nowhere | ours | {"PATH": "/bin"}) == Settings(token="t")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"[orchestrator", "not TOML"), (b'a = "\xff"', "not TOML"), (b"a = 1\na = 2", "not TOML")],
)
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(content)

    (line, *_) = refused(str(file), {})

    assert line.startswith(f"{file}: {reason}: ")


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    file = str(tmp_path / "none.toml")

    by_flag = refused(file, {})
    by_variable = refused(None, {"LLORCH_CONFIG": file})

    assert by_flag == by_variable == [f"{file}: cannot be read: No such file or directory"]


def test_the_flag_names_the_file_before_the_variable_and_that_before_the_users_own(tmp_path: Path) -> None:
    user = write(tmp_path / "llorch" / "llorch.toml", "[worker]\nslots = 1\n")
    named = write(tmp_path / "named.toml", "[worker]\nslots = 2\n")
    flag = write(tmp_path / "flag.toml", "[worker]\nslots = 3\n")
    env = {"XDG_CONFIG_HOME": str(tmp_path)}

    found = [load(env=env), load(env=env | {"LLORCH_CONFIG": named}), load(flag, env=env | {"LLORCH_CONFIG": named})]

    assert [(s.source, s.worker.slots) for s in found] == [(user, 1), (named, 2), (flag, 3)]


def test_state_is_kept_in_the_configured_folder_else_in_the_users() -> None:
    home = Path("~").expanduser()

    assert data_dir(Orchestrator(data_dir="/d"), "orchestrator", {"XDG_DATA_HOME": "/x"}) == Path("/d")
    assert data_dir(Orchestrator(data_dir="~/d"), "orchestrator", {}) == home / "d"
    assert data_dir(Pool(), "pool", {"XDG_DATA_HOME": "/x"}) == Path("/x/llorch/pool")
    assert data_dir(Pool(), "pool", {"XDG_DATA_HOME": "x"}) == home / ".local/share/llorch/pool"
    assert data_dir(Pool(), "pool", {}) == home / ".local/share/llorch/pool"


def test_a_pool_is_called_as_configured() -> None:
    assert pool_id(Pool(pool_id="blue.1")) == "blue.1"


def test_a_pool_without_a_name_has_one_that_the_orchestrator_takes() -> None:
    name = pool_id(Pool())

    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name)
    assert msgspec.convert({"pool_id": name, "endpoint": "http://p", "version": "1"}, Register).pool_id == name


@pytest.mark.parametrize("name", ["-a", "a b", "é", "a/b", "x" * 65])
def test_a_pool_cannot_be_called_anything(nowhere: dict[str, str], name: str) -> None:
    (line,) = refused(None, nowhere | {"LLORCH_POOL_POOL_ID": name})

    assert line.startswith("LLORCH_POOL_POOL_ID: found ")


def test_a_model_has_its_own_policy_and_the_rest_from_the_orchestrator(tmp_path: Path) -> None:
    text = "[orchestrator]\nkeep_alive_s = 7\n[models.haiku]\nmin_replicas = 2\n"
    text += '[models."file:/a.gguf"]\nkeep_alive_s = -1\n'

    found = load(write(tmp_path / "a.toml", text), env={}).models

    assert found == {
        "haiku": ModelPolicy(keep_alive_s=7.0, min_replicas=2),
        "file:/a.gguf": ModelPolicy(keep_alive_s=-1.0),
    }
    assert [policy.pinned for policy in found.values()] == [False, True]


def test_a_model_has_files_beside_it(tmp_path: Path) -> None:
    text = '[models.haiku]\nkv_type = "q8_0"\nlora = ["file:/a.gguf:0.5"]\ndraft = "qwen"\n'
    text += 'projector = "hf:org/repo::file=mmproj.gguf"\n'

    found = load(write(tmp_path / "a.toml", text), env={}).models

    assert found == {
        "haiku": ModelPolicy(
            kv_type="q8_0", lora=("file:/a.gguf:0.5",), draft="qwen", projector="hf:org/repo::file=mmproj.gguf"
        )
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[models.hiaku]\nctx = 64\n", "no model is called that; did you mean haiku?"),
        ("[models.haiku]\nkeep_alive_s = -2\n", "keep_alive_s: found -2"),
        ("[models.haiku]\nkeepalive = 1\n", "keepalive: unknown key; did you mean keep_alive_s?"),
        ("[models.haiku]\nmin_replicas = 9\n", "min_replicas: found 9, expected at most max_replicas"),
        ("models = 3\n", "[models]: found 3, expected sections"),
        ('[models.haiku]\nkv_type = "q9"\n', "kv_type: found 'q9', expected one of"),
        ('[models.haiku]\nlora = "file:/a.gguf"\n', "lora: found 'file:/a.gguf'"),
        ('[models.haiku]\nlora = ["tone:0.5"]\n', "lora: no model is called tone"),
        ('[models.haiku]\ndraft = "qwenn"\n', "draft: no model is called qwenn; did you mean qwen?"),
        ('[models.haiku]\nprojector = "file:relative"\n', "projector: no model is called file:relative"),
    ],
)
def test_a_wrong_policy_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        load(write(tmp_path / "a.toml", text), env={})

    assert problem in str(caught.value)
