"""Configured addresses: what can be listened on, who can reach it, and where the orchestrator is found."""

from __future__ import annotations

import pytest

from llorch.config import client_url, is_loopback, load, near_host, web_url
from llorch.errors import InvalidConfiguration
from llorch.settings import Client, Orchestrator, Settings
from tests.support.refusing import refused


@pytest.mark.parametrize(
    ("host", "near"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("fd00::1", "[fd00::1]"), ("10.0.0.5", "10.0.0.5"), ("blep", "blep")],
)
def test_who_listens_everywhere_is_reached_on_loopback_and_others_where_they_listen(host: str, near: str) -> None:
    assert near_host(host) == near


@pytest.mark.parametrize(
    "url",
    [
        *("http://", "http://[::1", "http://[zz]:80", "http://a:99999", "http://a:x", "http://a:0", "http://a..b"),
        *(
            "https:///path",
            "http://:8080",
            "http://a b",
            "http://a\n",
            "http://a:8080?x=1",
            "http://a#x",
            f"http://{'a' * 64}/",
            "ftp://a",
            "a:8080",
            "",
        ),
    ],
)
def test_what_is_no_url_is_the_configuration_s_fault_and_nobody_is_asked(url: str) -> None:
    with pytest.raises(InvalidConfiguration) as refused:
        web_url(url, "the pool")

    assert refused.value.message.startswith("the pool's address ")
    assert repr(url) in refused.value.message


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://[zz]:80", "http://a:99999", "http://a:0", "http://a..b", "http:///"]
)
@pytest.mark.parametrize("variable", ["LLORCH_POOL_ORCHESTRATOR", "LLORCH_POOL_ADVERTISE", "LLORCH_CLIENT_URL"])
def test_a_key_takes_no_url_that_leads_nowhere(nowhere: dict[str, str], variable: str, url: str) -> None:
    [found] = refused(None, {**nowhere, variable: url})

    assert found == f"{variable}: found {url!r}, expected a URL such as http://host:8080"


@pytest.mark.parametrize(
    "url", ["", "http://[::1]:8080", "https://a_b.example./", "http://ä.example:1", "http://u:p@[fd00::1]:65535/"]
)
def test_a_key_takes_other_urls(nowhere: dict[str, str], url: str) -> None:
    assert load(env={**nowhere, "LLORCH_POOL_ORCHESTRATOR": url}).pool.orchestrator == url


@pytest.mark.parametrize(
    "url", ["http://[::1]:8080", "https://a_b.example", "http://ä.example:1", "http://a/below", "http://u:p@a:65535"]
)
def test_a_url_is_taken_as_it_is_but_for_the_slash_at_its_end(url: str) -> None:
    assert web_url(f"{url}/", "the pool") == url


NO_ADDRESS = "expected an address such as 0.0.0.0 or ::1, or a host's name"


@pytest.mark.parametrize(
    "host", ["", "a..b", ".a", "a" * 64, "-a", "a b", "http://a", "a:80", "[::1]", "a\n", "é", "::" * 40]
)
@pytest.mark.parametrize("role", ["orchestrator", "pool", "worker"])
def test_what_is_neither_an_address_nor_a_name_is_nothing_to_listen_on(
    nowhere: dict[str, str], role: str, host: str
) -> None:
    variable = f"LLORCH_{role.upper()}_HOST"

    [found] = refused(None, {**nowhere, variable: host})

    assert found.startswith(f"{variable}: found ")
    assert found.endswith(NO_ADDRESS)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "::1", "fe80::1%eth0.100", "::ffff:10.0.0.1", "blep", "gpu_1.lan.", "a" * 63, "10.0.0.1"]
)
def test_addresses_and_names_can_be_listened_on(nowhere: dict[str, str], host: str) -> None:
    assert load(env={**nowhere, "LLORCH_POOL_HOST": host}).pool.host == host


def test_the_orchestrator_is_found_by_flag_then_variable_then_file_then_default() -> None:
    settings = Settings(client=Client(url="http://file:3/"))
    env = {"LLORCH_URL": "https://env:2/"}

    found = [
        client_url(settings, "http://flag:1/", env),
        client_url(settings, None, env),
        client_url(settings, None, {}),
        client_url(Settings(), None, {"LLORCH_URL": ""}),
    ]

    assert found == ["http://flag:1", "https://env:2", "http://file:3", "http://127.0.0.1:8080"]


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "HTTP:/x", "//x"])
def test_an_address_without_http_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfiguration) as raised:
        client_url(Settings(), url, {})

    assert raised.value.message == (f"the orchestrator's address must start with http:// or https://, found {url!r}")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_these_addresses_are_reached_from_this_machine_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.0.1", "127.example.org", "127.0.0.1.example.org", "localhost.example.org"]
)
def test_these_addresses_may_be_reached_from_elsewhere(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("0.0.0.0", 9000, "http://127.0.0.1:9000"),
        ("10.0.0.5", 8080, "http://10.0.0.5:8080"),
        ("fd00::1", 0, "http://[fd00::1]:8080"),
    ],
)
def test_the_orchestrator_of_this_host_is_found_where_it_listens(host: str, port: int, url: str) -> None:
    assert client_url(Settings(orchestrator=Orchestrator(host=host, port=port)), None, {}) == url
