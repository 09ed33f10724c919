"""What a worker's event blocks say, checked: readers, later attempts and the database rely on it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from llorch.errors import EngineFailed, WorkerLost
from llorch.sse import parse_block
from llorch.wire import events
from llorch.wire.codec import UNREADABLE
from llorch.wire.embedding import LINES, Capability

Other = events.WorkerStarted | events.Metrics | events.WorkerEnd | events.Failed

_TOKEN = b"event: token\n"
_token = msgspec.json.Decoder(events.WorkerToken)
_KINDS: Mapping[str, type[Other]] = {
    "started": events.WorkerStarted,
    "metrics": events.Metrics,
    "end": events.WorkerEnd,
    "error": events.Failed,
}


def read_blocks(
    blocks: Iterable[bytes], *, next_index: int, kind: Capability = "text-gen"
) -> Iterator[list[events.WorkerToken] | Other]:
    """Yield what *blocks* say in order, token events in runs; what is of no known kind is passed over.

    Args:
        blocks: Raw event blocks of a worker, each without its closing blank line.
        next_index: The index that the next token event must have.
        kind: What the job is for; the token events of another one than text are whole lines that hold what they must.

    Raises:
        WorkerLost: A token is not the next one or not what it must be, or an event is not llorch's. What came before
            it has been yielded.
    """
    run: list[events.WorkerToken] = []
    try:
        for block in blocks:
            if block.startswith(_TOKEN):
                run.append(_read_token(block, next_index, kind))
                next_index += 1
                continue
            event = parse_block(block)
            body = None if event is None else _KINDS.get(event.kind)
            if event is None or body is None:
                continue
            if run:
                yield run
                run = []
            yield msgspec.json.decode(event.data, type=body)
    except (*UNREADABLE, WorkerLost) as error:
        if run:
            yield run
        if isinstance(error, WorkerLost):
            raise
        raise WorkerLost("the worker sent an event that is not llorch's") from error
    if run:
        yield run


def _read_token(block: bytes, index: int, kind: Capability) -> events.WorkerToken:
    head = b"event: token\nid: %d.0\ndata: " % (index + 1)
    token = _token.decode(block[len(head) :]) if block.startswith(head) else None
    if token is None or token.i != index:
        raise WorkerLost("the worker sent a token out of order")
    if kind != "text-gen":
        _check_line(token.t, kind)
    return token


def _check_line(text: str, kind: Capability) -> None:
    if text.find("\n") != len(text) - 1:
        raise WorkerLost("the worker sent something else than a line")
    try:
        LINES[kind](text)
    except EngineFailed as error:
        raise WorkerLost(f"the worker is not to be relied on: {error.message}") from error
