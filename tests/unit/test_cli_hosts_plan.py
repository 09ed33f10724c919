"""What `hosts install` makes of what a host tells."""

from __future__ import annotations

import tomllib

import pytest

from llorch.cli.hosts_plan import (
    DATA,
    Found,
    data_folder,
    found,
    kept_out,
    orchestrator_in,
    other_orchestrator,
    pool_settings,
    reconfigured,
    refusal,
    refuse_broken,
    refuse_other_systems,
    to_be_asked,
    toml,
)
from llorch.cli.remote import Target
from llorch.errors import InvalidConfiguration

MAC = Target("mac", "http://mac:9300", "ann@mac")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("system=Linux x86_64\n", Found("Linux x86_64", "", systemd=False, configuration=None)),
        (
            "motd\nsystem=Linux x86_64\nsha256=ab\nsystemd=yes\nconfiguration:\n[pool]\nsystem=x\n",
            Found("Linux x86_64", "ab", systemd=True, configuration="[pool]\nsystem=x\n"),
        ),
        (
            "system=Darwin arm64\nname=mac.lan\nlaunchd=yes\n",
            Found("Darwin arm64", "", systemd=False, configuration=None, launchd=True, name="mac.lan"),
        ),
        ("configuration:\n", Found("", "", systemd=False, configuration="")),
        ("", Found("", "", systemd=False, configuration=None)),
    ],
)
def test_what_a_host_tells_is_understood(told: str, expected: Found) -> None:
    assert found(told) == expected


@pytest.mark.parametrize(
    ("theirs", "ours", "advice"),
    [
        ("Linux aarch64", "Linux x86_64", "hosts install mac --executable FILE"),
        ("", "Linux x86_64", "hosts install mac --executable FILE"),
        ("Darwin arm64", "Linux x86_64", "hosts install mac --executable FILE"),
        ("FreeBSD amd64", "FreeBSD amd64", "docs/hosts.md"),
    ],
)
def test_only_the_same_system_is_installed(theirs: str, ours: str, advice: str) -> None:
    with pytest.raises(InvalidConfiguration, match=advice):
        refuse_other_systems(MAC, theirs=theirs, ours=ours)


def test_a_mac_is_installed_from_wherever_its_executable_is() -> None:
    refuse_other_systems(MAC, theirs="Darwin arm64", ours="Darwin arm64")


@pytest.mark.parametrize(
    ("there", "advice"),
    [
        (Found("Linux x86_64", "", systemd=True, configuration=None), "loginctl enable-linger USER"),
        (Found("Linux x86_64", "", systemd=False, configuration=None), ""),
        (Found("Darwin arm64", "", systemd=False, configuration=None), "takes root there once"),
    ],
)
def test_it_is_told_what_keeps_a_pool_from_being_a_service(there: Found, advice: str) -> None:
    said = kept_out(MAC, there)

    assert advice in said
    assert bool(said) is bool(advice)


@pytest.mark.parametrize(
    ("url", "bind", "port"),
    [
        ("http://mac:9300", "0.0.0.0", 9300),
        ("http://[2001:db8::1]:9200", "::", 9200),
        ("http://127.0.0.1:9200", "127.0.0.1", 9200),
        ("http://mac", "0.0.0.0", 80),
    ],
)
def test_the_pool_listens_where_its_url_leads(url: str, bind: str, port: int) -> None:
    settings = pool_settings(Target("mac", url, "mac"), orchestrator="http://blep:8080", token="secret")

    pool = {"host": bind, "port": port, "pool_id": "mac", "orchestrator": "http://blep:8080", "advertise": url}
    assert settings == {"pool": pool, "auth": {"token_file": "~/.config/llorch/token"}}
    assert tomllib.loads(toml(settings)) == settings


def test_a_pool_that_others_reach_needs_a_token_and_one_alone_does_not() -> None:
    alone = pool_settings(Target("me", "http://localhost:9200", "me"), orchestrator="http://b:1", token="")

    assert list(alone) == ["pool"]
    with pytest.raises(InvalidConfiguration, match="set LLORCH_API_TOKEN"):
        pool_settings(MAC, orchestrator="http://b:1", token="")
    with pytest.raises(InvalidConfiguration, match="host mac has no url"):
        pool_settings(Target("mac", "", "mac"), orchestrator="http://b:1", token="secret")


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ('[pool]\norchestrator = "http://blep:8080/"\n', "http://blep:8080"),
        ("[pool]\n", ""),
        ("pool = 1\n", ""),
        ("[pool\n", ""),
        ("", ""),
    ],
)
def test_the_orchestrator_that_a_host_has_is_known_from_its_configuration(configuration: str, expected: str) -> None:
    assert orchestrator_in(configuration) == expected


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (None, None),
        ('[pool]\norchestrator = "http://blep:8080/"\n', None),
        ('[pool]\norchestrator = "http://old:1"\n', "http://old:1"),
        ("[pool]\n", ""),
    ],
)
def test_only_another_orchestrator_is_another_one(configuration: str | None, expected: str | None) -> None:
    assert other_orchestrator(configuration, wanted="http://blep:8080") == expected


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("", DATA),
        ("/srv/a b", "/srv/a b"),
        ("~/x", "$HOME/x"),
        ('/$(x)"', '/\\$(x)\\"'),
    ],
)
def test_the_data_directory_is_the_one_that_the_pool_is_told(folder: str, expected: str) -> None:
    assert data_folder(f"[pool]\ndata_dir = '{folder}'\n") == expected


def asked(found_there: str | None, configured: str, *, token: str = "secret", our_name: str = "here") -> str:
    """Return who is asked about the token for a host called mac."""
    there = Found("Linux x86_64", "", systemd=False, configuration=found_there, name="mac")
    return to_be_asked(there, configured, token=token, our_name=our_name)


def test_the_orchestrator_that_the_pool_will_register_with_is_asked_about_the_token() -> None:
    pool = '[pool]\norchestrator = "http://blep:8080"\n'
    near = pool.replace("blep", "127.0.0.1")
    ours, theirs = (f'{pool}[auth]\ntoken_file = "{file}"\n' for file in ("~/.config/llorch/token", "/srv/token"))

    assert asked(None, ours) == asked(ours, ours) == asked(None, pool, token="") == "http://blep:8080"
    assert asked(theirs, theirs) == asked(pool, pool) == "", "the token that we have is not the one that it uses"
    assert asked(ours, ours, token="") == "", "the token that it has stays"
    assert asked(None, near) == "", "what a loopback address means there is not what it means here"
    assert asked(None, near, our_name="mac") == "http://127.0.0.1:8080"
    assert asked(None, "[pool]\n") == asked(None, '[pool]\norchestrator = "http://["\n') == ""


def test_a_refused_token_and_one_that_is_missing_are_told_apart() -> None:
    assert "refuses this token; check LLORCH_API_TOKEN" in refusal(MAC, orchestrator="http://b:1", token="x")
    assert "asks for a token; set LLORCH_API_TOKEN" in refusal(MAC, orchestrator="http://b:1", token="")


def test_a_configuration_that_no_pool_can_read_is_refused_and_any_other_is_not() -> None:
    refuse_broken(MAC, '[pool]\nport = "9200"\n')
    with pytest.raises(InvalidConfiguration, match=r"the configuration of mac \(.* not TOML: .*; nothing was changed"):
        refuse_broken(MAC, "[pool")


def test_a_host_gets_another_orchestrator_and_keeps_its_comments() -> None:
    before = '# mine\n[pool]\norchestrator = "http://old:1"  # why\nport = 9300\n'

    after = reconfigured(MAC, before, orchestrator="http://blep:8080")

    assert after == before.replace("http://old:1", "http://blep:8080")


@pytest.mark.parametrize("configuration", ["[pool", "pool = 1", '[pool]\n# \ufffd\norchestrator = "x"'])
def test_a_configuration_that_cannot_be_changed_from_here_is_named_with_its_host(configuration: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"the configuration of mac \("):
        reconfigured(MAC, configuration, orchestrator="http://blep:8080")
