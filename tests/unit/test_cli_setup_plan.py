"""What a setup makes for whom, what it leaves alone, and what it says comes next."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from llorch.cli import setup_plan as plan
from llorch.cli.setup_plan import Item, Wish

SAMPLE = (Path(__file__).resolve().parents[2] / "llorch" / "assets" / "llorch.toml").read_text(encoding="utf-8")
HOME = Path("/home/ann")


def wish(bind: str = "", shell: str = "bash") -> Wish:
    """Return what somebody wants."""
    return Wish(
        data_dirs=[Path("/d/orchestrator"), Path("/d/pool")],
        config_file=Path("/c/llorch.toml"),
        token_file=Path('/c/a "token"') if bind else None,
        bind=bind,
        shell=shell,
        home=HOME,
    )


def test_the_sample_is_kept_but_for_the_keys_that_are_set() -> None:
    text = plan.with_values(SAMPLE, plan.values(wish("0.0.0.0")))

    assert tomllib.loads(text) == {
        "orchestrator": {"host": "0.0.0.0"},
        "pool": {"host": "0.0.0.0"},
        "worker": {},
        "auth": {"token_file": '/c/a "token"'},
        "client": {},
        "log": {},
    }
    changed = [(a, b) for a, b in zip(SAMPLE.splitlines(), text.splitlines(), strict=True) if a != b]
    assert changed == [
        ('# host = "127.0.0.1"', 'host = "0.0.0.0"'),
        ('# host = "127.0.0.1"', 'host = "0.0.0.0"'),
        ('# token_file = ""', 'token_file = "/c/a \\"token\\""'),
    ]
    assert plan.with_values(SAMPLE, {}) == SAMPLE


def test_a_key_that_the_sample_does_not_have_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        plan.with_values(SAMPLE, {("pool", "nonsense"): "x"})


def test_a_token_is_made_only_for_an_address_that_others_reach() -> None:
    alone = plan.items(wish(), {}, sample=SAMPLE, token="t", completion="c")
    reached = plan.items(wish("0.0.0.0"), {}, sample=SAMPLE, token="t", completion="c")

    assert [(item.path.name, item.mode) for item in alone] == [
        ("orchestrator", 0o700),
        ("pool", 0o700),
        ("llorch.toml", 0o600),
        ("llorch", 0o644),
    ]
    assert [(item.mode, item.text) for item in reached if "token" in item.path.name] == [(0o600, "t\n")]


@pytest.mark.parametrize(
    ("shell", "env", "expected"),
    [
        ("bash", {}, "/home/ann/.local/share/bash-completion/completions/llorch"),
        ("bash", {"XDG_DATA_HOME": "/data"}, "/data/bash-completion/completions/llorch"),
        ("zsh", {}, "/home/ann/.zfunc/_llorch"),
        ("fish", {"XDG_CONFIG_HOME": "relative"}, "/home/ann/.config/fish/completions/llorch.fish"),
        ("tcsh", {}, None),
        ("", {}, None),
    ],
)
def test_completion_goes_where_the_shell_looks(shell: str, env: dict[str, str], expected: str | None) -> None:
    found = plan.completion_file(shell, HOME, env)

    assert (str(found) if found else None) == expected


@pytest.mark.parametrize(
    ("item", "found", "state"),
    [
        (Item(path=HOME, what="", mode=0o700), None, "make"),
        (Item(path=HOME, what="", mode=0o700), "", "there"),
        (Item(path=HOME, what="", mode=0o600, text="mine"), "yours", "there"),
        (Item(path=HOME, what="", mode=0o600, text="script", ours=True), "script", "there"),
        (Item(path=HOME, what="", mode=0o600, text="script", ours=True), "older", "kept"),
    ],
)
def test_what_is_there_is_never_replaced(item: Item, found: str | None, state: str) -> None:
    assert plan.step(item, found).state == state


def test_the_end_says_what_to_type_next() -> None:
    done = {("orchestrator", "host"): "0.0.0.0", ("pool", "host"): "0.0.0.0", ("auth", "token_file"): '/c/a "token"'}

    assert plan.next_lines(wish(), {}, hostname="blep")[0] == "llorch demo"
    assert plan.next_lines(wish(shell="zsh"), {}, hostname="blep")[0].startswith("in ~/.zshrc")
    assert plan.next_lines(wish("0.0.0.0"), done, hostname="blep") == [
        "llorch serve orchestrator",
        "llorch serve pool --orchestrator http://127.0.0.1:8080",
        "llorch hosts add NAME --url http://NAME:9200",
        "llorch hosts install NAME --orchestrator http://blep:8080",
    ]
    left = plan.next_lines(wish("0.0.0.0"), done | {("pool", "host"): "127.0.0.1"}, hostname="blep")
    assert left[0] == 'in /c/llorch.toml, which was left as it is: [pool] host = "0.0.0.0"'


@pytest.mark.parametrize(
    ("bind", "near", "far"),
    [("10.0.0.5", "10.0.0.5", "10.0.0.5"), ("fd00::5", "[fd00::5]", "[fd00::5]"), ("::", "[::1]", "blep")],
)
def test_what_to_type_next_names_the_address_that_is_listened_on(bind: str, near: str, far: str) -> None:
    lines = plan.next_lines(wish(bind), plan.values(wish(bind)), hostname="blep")

    assert lines[1] == f"llorch serve pool --orchestrator http://{near}:8080"
    assert lines[3] == f"llorch hosts install NAME --orchestrator http://{far}:8080"
