"""What a model wrote must not drive the terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llorch.cli.output import one_line, plain


@given(st.text())
def test_no_control_character_but_tab_and_line_feed_is_left(text: str) -> None:
    left = plain(text)

    assert not [c for c in left if (ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160]


def test_an_escape_sequence_loses_its_power() -> None:
    assert plain("a\x1b[2Jb\x9bc\n") == "a[2Jbc\n"


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    assert "\n" not in one_line(text)
