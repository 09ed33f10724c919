"""Which pages may use a server, and by which names it may be reached: every kind of each, and what only looks alike."""

from __future__ import annotations

import pytest

from llorch.errors import HostNotAllowed, LlorchError, OriginNotAllowed
from llorch.origins import ONLY_LOCAL, Call, Guests, check, guests
from llorch.settings import Auth, Client, Pool, Settings

HERE = "127.0.0.1:8080"
ORIGIN, HOST = "ORIGIN_NOT_ALLOWED 403", "HOST_NOT_ALLOWED 403"


def verdict(call: Call, expected: Guests = ONLY_LOCAL, *, check_host: bool = False) -> str:
    """Return code and status of the refusal, empty when there is none."""
    try:
        check(call, expected, check_host=check_host)
    except LlorchError as error:
        return f"{error.code} {error.status}"
    return ""


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:3000",
        "https://localhost:65535",
        "HTTP://LocalHost:3000",
        "http://localhost.:3000",
        "http://tauri.localhost",
        "http://127.0.0.1:5173",
        "http://127.9.9.9",
        "http://0.0.0.0:8000",
        "http://[::1]:3000",
        "https://[0:0:0:0:0:0:0:1]",
        "app://obsidian.md",
        "file://",
        "tauri://localhost",
        "vscode-webview://1f2e3d",
        "vscode-file://vscode-app",
    ],
)
def test_pages_of_this_machine_may_use_it_unasked(origin: str) -> None:
    assert not verdict(Call("POST", HERE, origin), check_host=True)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://evil.example:8080",
        "null",
        "",
        " ",
        "*",
        "localhost",
        "localhost:3000",
        "//localhost",
        "http:localhost",
        "http://",
        "http:///",
        "http://:3000",
        "http://localhost/",
        "http://localhost/path",
        "http://localhost?a",
        "http://localhost#a",
        "http://user@localhost",
        "http://localhost@evil.example",
        "http://localhost:3000, https://evil.example",
        "http://localhost https://evil.example",
        "http://localhost\n",
        " http://localhost",
        "http://localhost:0",
        "http://localhost:65536",
        "http://localhost:123456",
        "http://localhost:3000:3000",
        "http://localhost:-1",
        "http://localhost:x",
        "http://localhost..",
        "http://localhost.evil.example",
        "http://evillocalhost",
        "http://localhost-evil.example",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1..",
        "http://128.0.0.1",
        "http://192.168.1.5",
        "http://[::2]",
        "http://[::1",
        "http://::1",
        "http://[::1].evil.example",
        "http://xn--lcalhost-54a",
        "http://l\u043ecalhost",
        "http://loc\u0430lhost:3000",
        "http://\uff4cocalhost",
        "http://printer.local",
        "http://db.internal",
        "ftp://localhost",
        "chrome-extension://abcdefgh",
        "moz-extension://0b4e2c1a",
        "application://obsidian.md",
        "xapp://obsidian.md",
        "1app://x",
        "data:text/html,x",
        "blob:http://localhost:3000",
        "javascript:alert(1)",
        "\udcff\udcfe",
        "http://" + "a" * 600,
        "app://" + "a" * 600,
    ],
)
def test_any_other_page_may_not(origin: str) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        assert verdict(Call(method, HERE, origin), check_host=True) == ORIGIN


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://llm.example", "llm.example"),
        ("https://llm.example", "llm.example"),
        ("https://llm.example", "LLM.example:443"),
        ("https://llm.example:443", "llm.example"),
        ("http://llm.example:80", "llm.example"),
        ("http://llm.example", "llm.example:"),
        ("http://llm.example.", "llm.example"),
        ("http://nas:8080", "nas:8080"),
        ("http://192.168.1.5:8080", "192.168.1.5:8080"),
        ("http://[fd00::5]:8080", "[fd00::5]:8080"),
        ("http://xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_its_own_pages_may_use_it_also_behind_a_proxy(origin: str, host: str) -> None:
    assert not verdict(Call("POST", host, origin))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://llm.example:3000", "llm.example:8080"),
        ("http://llm.example", "llm.example:8080"),
        ("http://llm.example:443", "llm.example"),
        ("https://llm.example", "llm.example:80"),
        ("http://evil.llm.example", "llm.example"),
        ("http://llm.example.evil", "llm.example"),
        ("chrome-extension://llm.example", "llm.example"),
        ("http://llm.example", None),
        ("http://llm.example", ""),
        ("http://llm.example", "llm.example,evil.example"),
        ("http://llm.example", "http://llm.example"),
        ("http://llm.example", "a@llm.example"),
        ("http://nas", "nas:99999999"),
    ],
)
def test_a_page_of_another_port_name_or_scheme_is_not_its_own(origin: str, host: str | None) -> None:
    assert verdict(Call("POST", host, origin)) == ORIGIN


@pytest.mark.parametrize(
    ("allowed", "origin", "may"),
    [
        ("https://chat.example", "https://chat.example", True),
        ("https://chat.example", "https://chat.example:443", True),
        ("https://chat.example:443", "https://chat.example", True),
        ("https://chat.example/", "https://chat.example", True),
        ("HTTPS://Chat.Example", "https://chat.example", True),
        ("https://chat.example", "https://chat.example.", True),
        ("https://chat.example", "https://CHAT.example", True),
        ("https://chat.example", "http://chat.example", False),
        ("https://chat.example", "https://chat.example:8443", False),
        ("https://chat.example", "https://chatxexample", False),
        ("https://chat.example", "https://chat.example.evil", False),
        ("https://chat.example", "https://evil-chat.example", False),
        ("https://chat.example:8443", "https://chat.example:8443", True),
        ("https://chat.example:8443", "https://chat.example", False),
        ("https://chat.example:*", "https://chat.example:9", True),
        ("https://chat.example:*", "https://chat.example", True),
        ("https://*.example", "https://a.b.example", True),
        ("https://*.example", "https://example", False),
        ("https://*.example", "https://evil:1/.example", False),
        ("https://*.example", "https://evil@a.example", False),
        ("http://192.168.1.*", "http://192.168.1.7:3000", True),
        ("http://192.168.1.*", "http://192.168.2.7:3000", False),
        ("http://[fd00::7]:3000", "http://[FD00::7]:3000", True),
        ("chrome-extension://*", "chrome-extension://abc", True),
        ("chrome-extension://abc", "chrome-extension://abd", False),
        ("capacitor://", "capacitor://", True),
        ("https://*", "https://any.example:1", True),
        ("https://*", "http://any.example:1", False),
        ("https://*", "null", False),
        ("null", "null", True),
        ("*", "null", True),
        ("*", "https://any.example", True),
        ("*", "no origin at all", True),
    ],
)
def test_the_operator_can_allow_more(allowed: str, origin: str, *, may: bool) -> None:
    found = verdict(Call("POST", HERE, origin), Guests(("https://first.example", allowed)))

    assert found == ("" if may else ORIGIN)


@pytest.mark.parametrize(
    "host",
    [
        *(None, "", "127.0.0.1", HERE, "[::1]:8080", "192.168.1.5:8080", "8.8.8.8", "[fe80::1%25eth0]:1"),
        *("localhost", "LOCALHOST:8080", "localhost.", "a.localhost:1", "mac.local", "mac.local.:80"),
        *("host.docker.internal:8080", "workstation", "WorkStation:8080", "workstation.:1"),
    ],
)
def test_a_server_of_this_machine_alone_is_reached_by_addresses_and_names_that_nobody_else_can_have(
    host: str | None,
) -> None:
    assert not verdict(Call("POST", host), Guests(names=("workstation",)), check_host=True)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "localhost.evil.example", "evillocalhost", "127.0.0.1.evil.example"),
        *(
            "local",
            "internal",
            "evil-local",
            "mac.local.evil",
            "127.0.0.1..",
            "localhost..",
            ".",
            ":8080",
            "2130706433",
        ),
        *(
            "0x7f.1",
            "::1",
            "[::1",
            "[::g]",
            "[]",
            "a@localhost",
            "localhost, evil.example",
            "localhost/",
            "localhost:x",
        ),
        *("xn--lcalhost-54a", "l\u043ecalhost", "\udcff", "workstation.evil.example", "work", "a" * 600 + ".local"),
    ],
)
def test_no_other_name_leads_to_it(host: str) -> None:
    expected = Guests(names=("workstation",))

    assert verdict(Call("GET", host), expected, check_host=True) == HOST
    assert verdict(Call("GET", host, f"http://{host}"), expected, check_host=True) == HOST
    assert not verdict(Call("GET", host), expected)


@pytest.mark.parametrize(
    ("allowed", "host", "may"),
    [
        ("https://llm.example", "llm.example", True),
        ("http://llm.example:8080", "llm.example:8080", True),
        ("https://llm.example", "llm.example:8080", False),
        ("https://*.example", "llm.example", True),
        ("https://llm.example", "evil.example", False),
        ("*", "any.example", False),
        ("app://*", "any.example", False),
    ],
)
def test_the_name_of_an_origin_that_the_operator_allows_is_the_server_s_too(
    allowed: str, host: str, *, may: bool
) -> None:
    found = verdict(Call("GET", host), Guests((allowed,)), check_host=True)

    assert found == ("" if may else HOST)


@pytest.mark.parametrize(
    ("method", "site", "allowed", "may"),
    [
        ("POST", "cross-site", (), False),
        ("DELETE", "cross-site", ("https://chat.example",), False),
        ("POST", "cross-site", ("*",), True),
        ("GET", "cross-site", (), True),
        ("HEAD", "cross-site", (), True),
        ("POST", "same-site", (), True),
        ("POST", "same-origin", (), True),
        ("POST", "none", (), True),
        ("POST", None, (), True),
    ],
)
def test_what_comes_from_another_site_without_its_origin_only_reads(
    method: str, site: str | None, allowed: tuple[str, ...], *, may: bool
) -> None:
    found = verdict(Call(method, HERE, site=site), Guests(allowed))

    assert found == ("" if may else ORIGIN)


def test_refusals_say_what_to_set_and_show_no_more_than_they_should() -> None:
    with pytest.raises(OriginNotAllowed) as origin:
        check(Call("GET", HERE, "https://evil.example"), ONLY_LOCAL, check_host=True)
    with pytest.raises(HostNotAllowed) as host:
        check(Call("GET", "\udcff\x1b" + "a" * 500), ONLY_LOCAL, check_host=True)

    assert origin.value.message == (
        "web pages of 'https://evil.example' may not use this server; if they are yours, add that origin to [auth] "
        "origins (LLORCH_AUTH_ORIGINS)"
    )
    assert host.value.message == (
        "the request was sent to '\\udcff\\x1b"
        + "a" * 98
        + "...', which is no name of this machine; if you have given "
        "it that name, add it to [auth] origins, such as http://NAME, or set a token"
    )


def test_the_names_that_the_settings_have_for_this_host_are_its_own() -> None:
    settings = Settings(
        auth=Auth(origins=("https://chat.example",)),
        client=Client(url="http://Blep:8080"),
        pool=Pool(orchestrator="https://llm.example", advertise="http://[fd00::1]:9200"),
    )

    assert guests(settings) == Guests(("https://chat.example",), ("blep", "llm.example", "fd00::1"))
    assert guests(Settings()) == ONLY_LOCAL
