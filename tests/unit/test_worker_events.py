"""What a worker's event blocks say, and what of them is refused."""

from __future__ import annotations

import pytest

from llorch.errors import WorkerLost
from llorch.wire.embedding import Capability
from llorch.wire.events import Metrics, WorkerStarted, WorkerToken
from roles.orchestrator.queue.worker_events import Other, read_blocks

STARTED = b'event: started\nid: 0.1\ndata: {"job_id":"j","attempt":1,"tokens_in":3,"max_tokens":9,"engine":"e"}'


def token(index: int, text: str = "a", more: str = "") -> bytes:
    return f'event: token\nid: {index + 1}.0\ndata: {{"i":{index},"t":"{text}"{more}}}'.encode()


def read(
    blocks: list[bytes], *, next_index: int = 0, kind: Capability = "text-gen"
) -> tuple[list[list[WorkerToken] | Other], str]:
    """Return what was yielded, and why it ended early if it did."""
    found: list[list[WorkerToken] | Other] = []
    try:
        found.extend(read_blocks(blocks, next_index=next_index, kind=kind))
    except WorkerLost as error:
        return found, error.message
    return found, ""


def test_token_events_come_in_runs_between_the_others() -> None:
    blocks = [
        STARTED,
        token(4),
        token(5, "é", ',"ids":[7,8],"held":"x"'),
        b"event: metrics\nid: 6.2\ndata: {}",
        token(6),
    ]

    found, trouble = read(blocks, next_index=4)

    assert trouble == ""
    assert found == [
        WorkerStarted(job_id="j", attempt=1, tokens_in=3, max_tokens=9, engine="e"),
        [WorkerToken(4, "a"), WorkerToken(5, "é", [7, 8], "x")],
        Metrics(),
        [WorkerToken(6, "a")],
    ]


@pytest.mark.parametrize("block", [b": keep-alive", b"event: news\ndata: {}", b"id: 7", b"\n"])
def test_what_is_of_no_known_kind_is_passed_over(block: bytes) -> None:
    assert read([token(0), block, token(1)]) == ([[WorkerToken(0, "a"), WorkerToken(1, "a")]], "")


@pytest.mark.parametrize(
    ("block", "trouble"),
    [
        (token(2), "out of order"),
        (token(0), "out of order"),
        (b'event: token\nid: 2.0\ndata: {"i":2,"t":"a"}', "out of order"),
        (b'event: token\nid: 2.1\ndata: {"i":1,"t":"a"}', "out of order"),
        (b'event: token\nid: 2.0\ndata: {"i":1,"t":null}', "not llorch's"),
        (b"event: token\nid: 2.0\ndata: {", "not llorch's"),
        (b'event: token\nid: 2.0\ndata: {"i":1,"t":"\xff"}', "not llorch's"),
        (b"event: end\ndata: {}", "not llorch's"),
        (b"event: started\ndata: []", "not llorch's"),
    ],
)
def test_what_came_before_a_wrong_event_counts_and_nothing_behind_it(block: bytes, trouble: str) -> None:
    found, said = read([token(0), block, token(1)])

    assert found == [[WorkerToken(0, "a")]]
    assert trouble in said


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("embedding", "AAAAAA==\\n", ["AAAAAA==", "AAAAAA==\\nAAAAAA==\\n", "AAAA\\n", "é\\n", "\\n", ""]),
        ("rerank", "-1.5\\n", ["-1.5", "1\\n2\\n", "\\n1\\n", "NaN\\n", "true\\n", ""]),
    ],
)
def test_a_line_holds_what_its_job_is_for(kind: Capability, good: str, bad: list[str]) -> None:
    for text in bad:
        found, said = read([token(0, good), token(1, text), token(2, good)], kind=kind)

        assert [[piece.i for piece in run] for run in found if isinstance(run, list)] == [[0]]
        assert said.startswith("the worker")
    assert read([token(0, text) for text in bad[:1]])[1] == ""
