"""A section is added to or taken from a file, and every other byte of it stays."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llorch.config_file import with_section, with_value, without_section
from llorch.errors import InvalidConfiguration

MAC = ("hosts", "mac")
FILES = (
    "",
    "# nothing but a comment\n",
    "[pool]\nport = 9300   # not 9200\n\n# the end\n",
    '[hosts.pc]\nssh = "pc"\n',
    '[pool]\r\nhost = "::1"\r\n',
    'text = """\n[hosts.mac]\nurl = 1\n"""\n',
)


@pytest.mark.parametrize("text", FILES)
def test_what_is_added_and_removed_leaves_the_file_as_it_was(text: str) -> None:
    added = with_section(text, MAC, {"url": "http://mac:9200", "ssh": "ann@mac"})

    assert added.startswith(text)
    assert tomllib.loads(added)["hosts"]["mac"] == {"url": "http://mac:9200", "ssh": "ann@mac"}
    assert without_section(added, MAC) == text


@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(FILES),
)
@example("a.b", '\x7f\x00"\\\n😀\u2028', "")
def test_every_name_and_value_is_read_back_as_it_was_given(name: str, value: str, text: str) -> None:
    if name == "pc" and "[hosts.pc]" in text:
        return
    added = with_section(text, ("hosts", name), {"ssh": value})

    assert tomllib.loads(added)["hosts"][name] == {"ssh": value}
    assert without_section(added, ("hosts", name)) == text


def test_a_line_that_had_no_end_gets_one() -> None:
    assert with_section("[pool]\nport = 1", MAC, {"ssh": "m"}) == '[pool]\nport = 1\n\n[hosts.mac]\nssh = "m"\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '# old laptop\n[hosts.mac]\nssh = "m"\n# keep me\n\n# pc\n[hosts.pc]\n',
            "# old laptop\n# keep me\n\n# pc\n[hosts.pc]\n",
        ),
        ('[hosts.mac]\n\n# why\nssh = "m"\n\n[pool]\n', "[pool]\n"),
        ('[pool]\n\n[ hosts . "mac" ] # here\nssh = """\n[pool]\n"""\n\n[worker]\n', "[pool]\n\n[worker]\n"),
        ("[hosts]\n[hosts.mac]\n[worker]\nslots = 1", "[hosts]\n[worker]\nslots = 1"),
        ("[hosts.mac2]\n[hosts.mac]", "[hosts.mac2]\n"),
        ('[hosts.mac]\nurl = "x"', ""),
    ],
)
def test_a_section_goes_from_its_header_to_its_last_key(before: str, after: str) -> None:
    assert without_section(before, MAC) == after


@pytest.mark.parametrize(
    "text", ['hosts.mac.ssh = "m"\n', 'hosts = {mac = {ssh = "m"}}\n', '[hosts]\nmac = {ssh = "m"}\n']
)
def test_what_is_written_otherwise_is_refused_in_both_directions(text: str) -> None:
    with pytest.raises(InvalidConfiguration, match="not written as a section of its own; remove it by hand"):
        without_section(text, MAC)
    with pytest.raises(InvalidConfiguration, match="is there already"):
        with_section(text, MAC, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hosts = {}\n", "cannot be added here: .*; add it by hand"),
        ("hosts = 3\n", "not a section"),
        ("[pool\n", "not TOML"),
    ],
)
def test_a_file_that_nothing_can_be_added_to_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        with_section(text, MAC, {})


def test_what_is_not_there_cannot_be_removed() -> None:
    with pytest.raises(InvalidConfiguration, match=r"there is no \[hosts.mac\]"):
        without_section("[hosts.pc]\n", MAC)


ORCHESTRATOR = ("pool", "orchestrator")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '# mine\n[client]\norchestrator_ = 1\n[pool]\nport = 9300\norchestrator="http://a:1" # the "old" one\n',
            '# mine\n[client]\norchestrator_ = 1\n[pool]\nport = 9300\norchestrator="http://b:2" # the "old" one\n',
        ),
        ("[pool]\r\n  orchestrator = 'x'\r\n", '[pool]\r\n  orchestrator = "http://b:2"\r\n'),
        ("[auth]\n\n[pool]  # here\nport = 1", '[auth]\n\n[pool]  # here\norchestrator = "http://b:2"\nport = 1'),
        ("# nothing", '# nothing\n\n[pool]\norchestrator = "http://b:2"\n'),
        ('[pool]\norchestrator = "http://b:2"\n', '[pool]\norchestrator = "http://b:2"\n'),
        (
            "[a]\norchestrator = 'x'\n[pool]\norchestrator = 'x'",
            "[a]\norchestrator = 'x'\n[pool]\norchestrator = \"http://b:2\"",
        ),
    ],
)
def test_a_key_is_set_where_it_stands_and_comments_stay(before: str, after: str) -> None:
    assert with_value(before, ORCHESTRATOR, "http://b:2") == after


@pytest.mark.parametrize(
    "text", ['pool = { orchestrator = "x" }\n', "pool = 1\n", '[pool]\norchestrator = """\nx"""\n', "[pool"]
)
def test_a_key_that_is_written_in_another_way_is_left_to_its_owner(text: str) -> None:
    with pytest.raises(InvalidConfiguration):
        with_value(text, ORCHESTRATOR, "http://b:2")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(FILES))
@example("\x85\u2028\x0b", FILES[2])
def test_every_value_is_read_back_as_it_was_set(value: str, text: str) -> None:
    once = with_value(text, ORCHESTRATOR, value)

    assert tomllib.loads(once)["pool"]["orchestrator"] == value
    assert tomllib.loads(with_value(once, ORCHESTRATOR, "y")) == tomllib.loads(with_value(text, ORCHESTRATOR, "y"))
