"""Where a download is, in one line."""

from __future__ import annotations

import msgspec
import pytest

from llorch.cli.model_download import line
from llorch.wire.models import Download, DownloadState

MIB = 2**20


def view(state: DownloadState, **more: object) -> Download:
    made = Download(download_id="d", model_ref="hf:o/r", state=state, bytes_done=MIB, bytes_total=4 * MIB)
    return msgspec.structs.replace(made, **more)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (view("queued"), "waiting for its turn"),
        (view("looking"), "asking what there is"),
        (view("downloading"), "25 %, 1.0 MiB of 4.0 MiB"),
        (
            view("downloading", rate_bytes_s=float(MIB), seconds_left=3.0),
            "25 %, 1.0 MiB of 4.0 MiB, 1.0 MiB/s, 3.0 s left",
        ),
        (view("verifying"), "checking the hash: 25 %"),
        (view("waiting", error="the hub is away"), "waiting to try again: the hub is away"),
        (view("complete"), "complete"),
    ],
)
def test_a_line_says_what_can_be_said(shown: Download, expected: str) -> None:
    assert line(shown) == expected
