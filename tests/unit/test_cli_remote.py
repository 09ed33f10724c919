"""Which way leads to a host, what is sent along it, and what ssh's own words mean."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.cli.remote import (
    Target,
    Via,
    diagnosis,
    forwarded,
    llorch_command,
    missing,
    other_version,
    remote_command,
    ssh_argv,
    target,
    way,
)
from llorch.errors import InvalidConfiguration
from llorch.settings import Host

MAC = Target("mac", "http://mac:9200", "ann@mac.lan")
CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
Add correct host key in /home/ann/my hosts to get rid of this message.
Offending ED25519 key in /home/ann/my hosts:12
Host key for [mac.lan]:2222 has changed and you have requested strict checking.
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("url", "via", "answers", "expected"),
    [
        ("http://mac:9200", None, True, "http"),
        ("http://mac:9200", None, False, "ssh"),
        ("http://mac:9200", "ssh", True, "ssh"),
        ("http://mac:9200", "http", False, "http"),
        ("", None, False, "ssh"),
        ("", "ssh", False, "ssh"),
    ],
)
def test_http_is_the_way_where_the_pool_answers_unless_one_is_forced(
    url: str, via: Via | None, answers: bool, expected: Via
) -> None:
    assert way(Target("mac", url, "mac"), via, answers=answers) == expected


def test_http_cannot_be_forced_without_a_url() -> None:
    with pytest.raises(InvalidConfiguration, match="host mac has no url"):
        way(Target("mac", "", "mac"), "http", answers=False)


def test_a_host_without_a_destination_is_ssh_s_own_name_for_it() -> None:
    hosts = {"mac": Host(url="http://mac:9200/"), "pc": Host(ssh="ann@pc.lan")}

    found = [target(name, hosts, "F") for name in hosts]

    assert found == [Target("mac", "http://mac:9200", "mac"), Target("pc", "", "ann@pc.lan")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("worksation", "there is no host 'worksation' in F; did you mean workstation? to add it: "),
        ("zzz", "known: workstation, mac;"),
    ],
)
def test_an_unknown_host_is_answered_with_what_there_is(name: str, said: str) -> None:
    with pytest.raises(InvalidConfiguration) as raised:
        target(name, {"workstation": Host(), "mac": Host()}, "F")

    assert said in raised.value.message
    assert f"llorch hosts add {name}" in raised.value.message


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("pool status --host mac --json", "pool status --json"),
        ("pool --host=mac status --via=ssh --config F", "pool status"),
        ("pool worker spawn -m haiku --via http --config=F --gpu 0 --host mac", "pool worker spawn -m haiku --gpu 0"),
        ("pool worker stop -- --host x", "pool worker stop -- --host x"),
        ("pool status --hostess x", "pool status --hostess x"),
        ("pool status --host", "pool status"),
    ],
)
def test_the_other_host_is_sent_the_command_without_the_way_to_it(words: str, expected: str) -> None:
    assert forwarded(words.split()) == expected.split()


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=2))
def test_several_words_arrive_at_the_other_shell_as_they_were(words: list[str]) -> None:
    assert shlex.split(remote_command(words)) == words


@pytest.mark.parametrize("shell", [["sh", "-c"], ["bash", "-c"], ["zsh", "-fc"]], ids=lambda words: words[0])
def test_no_shell_of_another_host_reads_anything_into_a_word(shell: list[str]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"there is no {shell[0]} here")
    words = ["printf", "%s\n", "==", "=ls", "a=b", "~", "*", "$HOME", "{a,b}", "it's", "!x", "", "#"]

    done = subprocess.run([*shell, remote_command(words)], check=True, stdout=subprocess.PIPE, text=True)

    assert done.stdout.split("\n") == [*words[2:], ""]


def test_a_single_word_is_a_line_for_the_shell() -> None:
    assert remote_command(["ls | wc -l"]) == "ls | wc -l"


def test_llorch_is_found_where_it_is_installed_and_gets_its_arguments_unchanged() -> None:
    assert llorch_command(["pool", "info", "a b"]) == """PATH="$PATH:$HOME/.local/bin" llorch pool info 'a b'"""


def test_ssh_never_asks_and_gives_up_in_time() -> None:
    quiet = ssh_argv(["ssh", "-F", "f"], "ann@mac", "llorch x", log="L", terminal=False)
    shown = ssh_argv(["ssh"], "mac", "top", log="L", terminal=True)

    settings = "BatchMode=yes ConnectTimeout=10 ServerAliveInterval=15 ServerAliveCountMax=3 LogLevel=ERROR".split()
    options = [*(part for setting in settings for part in ("-o", setting)), "-E", "L"]
    assert quiet == ["ssh", "-F", "f", *options, "ann@mac", "--", "llorch x"]
    assert shown == ["ssh", "-t", *options, "mac", "--", "top"]


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (CHANGED, "if the new key is right: ssh-keygen -f '/home/ann/my hosts' -R '[mac.lan]:2222'"),
        ("No ED25519 host key is known for mac\nHost key verification failed.\n", "accept it once with: ssh ann@mac"),
        ("ann@mac.lan: Permission denied (publickey,password).\n", "let it in with: ssh-copy-id ann@mac.lan"),
        ("ssh: connect to host mac.lan port 22: Connection timed out\n", "no answer within 10 s"),
        ("ssh: connect to host mac.lan port 22: Operation timed out\n", "no answer within 10 s"),
        ("Connection timed out during banner exchange\n", "no answer within 10 s"),
        ("Connection to mac.lan closed by remote host.\n", "was lost: closed by remote host; try again"),
        ("client_loop: send disconnect: Broken pipe\n", "was lost: broken pipe; try again"),
        ("Timeout, server mac.lan not responding.\r\n", "was lost: nothing came from it for 45 s"),
        ("ssh: connect to host mac.lan port 22: Connection refused\n", "nothing listens for ssh there"),
        ("ssh: Could not resolve hostname mac.lan: Name or service not known\n", "the name is unknown"),
        ("ssh: connect to host mac.lan port 22: No route to host\n", "is it on"),
        (
            "/home/ann/.ssh/config: line 3: Bad configuration option: x\n",
            "line 3: Bad configuration option: x; try: ssh",
        ),
        ("", "the command on mac ended without a status"),
    ],
)
def test_each_failure_of_ssh_is_one_line_with_what_to_do(log: str, said: str) -> None:
    told = diagnosis(log, MAC)

    assert said in told
    assert "\n" not in told


def test_a_missing_llorch_is_told_with_the_command_that_copies_it() -> None:
    assert 'llorch hosts install mac, or scp "$(command -v llorch)" ann@mac.lan:.local/bin/' in missing(MAC)


@pytest.mark.parametrize(
    ("theirs", "told"), [("llorch 0.1.0\n", False), ("llorch 0.0.9\n", True), ("", False), ("bash: what?\n", False)]
)
def test_only_another_version_of_llorch_is_told(theirs: str, told: bool) -> None:
    advice = other_version(MAC, theirs=theirs, ours="llorch 0.1.0")

    assert (advice is not None) is told
