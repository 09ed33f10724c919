"""What a model wrote must not drive the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
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


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_json_loses_nothing_whatever_stdout_can_write(encoding: str) -> None:
    script = "from llorch.cli.output import write_json; write_json({'text': '日本 – ü', 'of': 0.1})"

    told = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    ).stdout

    assert json.loads(told.decode("utf-8")) == {"text": "日本 – ü", "of": 0.1}
