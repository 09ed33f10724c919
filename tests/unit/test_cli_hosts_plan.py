"""What `hosts install` makes of what a host tells."""

from __future__ import annotations

import tomllib

import pytest

from llorch.cli.hosts_plan import Found, found, pool_settings, refuse_other_systems, toml
from llorch.cli.remote import Target
from llorch.errors import InvalidConfiguration

MAC = Target("mac", "http://mac:9300", "ann@mac")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("system=Linux x86_64\n", Found("Linux x86_64", "", configured=False, systemd=False)),
        (
            "motd\nsystem=Linux x86_64\nsha256=ab\nconfigured=yes\nsystemd=yes\n",
            Found("Linux x86_64", "ab", configured=True, systemd=True),
        ),
        ("", Found("", "", configured=False, systemd=False)),
    ],
)
def test_what_a_host_tells_is_understood(told: str, expected: Found) -> None:
    assert found(told) == expected


@pytest.mark.parametrize(
    ("theirs", "ours"), [("Linux aarch64", "Linux x86_64"), ("", "Linux x86_64"), ("Darwin arm64",) * 2]
)
def test_only_the_same_linux_is_installed(theirs: str, ours: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"docs/hosts\.md"):
        refuse_other_systems(MAC, theirs=theirs, ours=ours)


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
