"""Compares what clients were told with what is on disk; returns every broken promise as a sentence. Pure.

It takes nothing from the code that it audits: rows as SQLite gives them, events as they were on the wire.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from tests.support.transcripts import TERMINAL, Seen, Transcript

FINAL = {"completed", "failed", "cancelled"}
MAX_ATTEMPTS = 5
BACK_OFF_MS = 1_000
"""The longest wait before a second attempt; it doubles with each."""
UNSURE = 0.03
"""The difference of two log-probabilities below which rounding decides: llama.cpp rounds otherwise where it reads a
text than where it writes it, by up to 0.009 in the models of the chaos test."""
FREE_OUTCOMES = {"ALL_SLOTS_BUSY", "NOT_READY", "DRAINING", "HANDED_BACK", "ORCHESTRATOR_RESTARTED"}
"""Outcomes of attempts that do not count against a job."""
Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Reference:
    """The text of an undisturbed run, where there is just one right text but for rounding."""

    text: str
    unsure: Sequence[range] = ()
    """Where, in characters, another token was as good as equally likely."""

    def allows(self, text: str, *, is_whole: bool) -> bool:
        """Tell whether a disturbed run may have written *text*: it leaves the reference only where that was unsure."""
        if text == self.text or (not is_whole and self.text.startswith(text)):
            return True
        pairs = zip_longest(text, self.text)
        same = next(position for position, (here, there) in enumerate(pairs) if here != there)
        return any(same in place for place in self.unsure)


@dataclass(frozen=True, slots=True)
class Expected:
    """What may become of a job, as its client knows it."""

    max_tokens: int
    stop: Sequence[str] = ()
    reference: Reference | None = None
    may_cancel: bool = False
    may_be_late: bool = False


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A job as the database holds it."""

    row: Row
    attempts: Sequence[Row] = ()
    output: Sequence[tuple[int, int, bytes]] = ()
    """(first, count, events) in order."""


@dataclass(slots=True)
class Job:
    """One accepted job: what its client wanted, saw and was told."""

    job_id: str
    expected: Expected
    transcripts: list[Transcript] = field(default_factory=list)
    cancel_answers: list[str] = field(default_factory=list)
    """Final states that a cancellation was answered with."""


def audit(job: Job, disk: OnDisk | None) -> list[str]:
    """Return what is wrong with one job."""
    if disk is None:
        return [f"job {job.job_id} was accepted and is not in the database"]
    found = [
        *(problem for transcript in job.transcripts for problem in _transcript(transcript)),
        *_shared(job.transcripts),
        *_row(disk),
        *_attempts(disk),
        *_output(disk),
    ]
    whole = max(job.transcripts, key=lambda transcript: len(transcript.events), default=None)
    if whole is not None and whole.ended:
        found += [*_terminal(whole.events[-1], disk.row), *_text(job, whole, disk), *_stored(whole, disk)]
    found += [
        f"a cancellation was answered with {answer}, the row says {disk.row['state']}"
        for answer in job.cancel_answers
        if answer != disk.row["state"]
    ]
    found += _end(job.expected, disk)
    return [f"job {job.job_id}: {problem}" for problem in found]


def text_of(events: Sequence[Seen]) -> str:
    """Return the text of token events."""
    return "".join(json.loads(event.data)["t"] for event in events if event.kind == "token")


def reference_of(events: Sequence[Seen], *, held: int) -> Reference:
    """Return what an undisturbed run wrote.

    Args:
        events: Those of the run, with the log-probabilities of the two likeliest tokens in each place.
        held: So many characters of a token may come only with the next one: a stop sequence may begin with them.
    """
    text, unsure = "", []
    for body in (json.loads(event.data) for event in events if event.kind == "token"):
        begin, text = len(text), text + body["t"]
        likeliest = [[token["logprob"] for token in place["top_logprobs"]] for place in body["logprobs"]]
        if any(max(pair) - min(pair) < UNSURE for pair in likeliest):
            unsure.append(range(begin, len(text) + held + 1))
    return Reference(text, unsure)


def _transcript(transcript: Transcript) -> Iterator[str]:
    name = transcript.reader
    yield from (f"{name}: {problem}" for problem in transcript.problems)
    terminals = sum(event.kind in TERMINAL for event in transcript.events)
    if terminals != 1 or not transcript.ended:
        yield f"{name} saw {terminals} terminal events"
    for before, event in zip(transcript.events, transcript.events[1:], strict=False):
        if event.id <= before.id:
            yield f"{name}: {event.kind} {event.id} came behind {before.kind} {before.id}"
    tokens = [event for event in transcript.events if event.kind == "token"]
    for index, event in enumerate(tokens):
        if json.loads(event.data)["i"] != index or event.id != (index + 1, 0):
            yield f"{name}: token {index} is {event.id} {event.data.decode()}"
            return


def _shared(transcripts: Sequence[Transcript]) -> Iterator[str]:
    """Find ids that mean one thing to one reader and another to the next, and ends that differ."""
    meanings: dict[tuple[int, int], Seen] = {}
    for transcript in transcripts:
        for event in transcript.events:
            known = meanings.setdefault(event.id, event)
            if known != event:
                yield f"{transcript.reader}: {event} was {known} to another reader"
    ends = {transcript.events[-1] for transcript in transcripts if transcript.ended}
    if len(ends) > 1:
        yield f"readers saw different ends: {ends}"


def _row(disk: OnDisk) -> Iterator[str]:
    row = disk.row
    if row["state"] not in FINAL:
        yield f"its row is still {row['state']}"
    if row["request"] is not None:
        yield "its prompt is still in the database"
    if row["finished_ms"] is None or row["final_event"] is None:
        yield "its row has no end"


def _attempts(disk: OnDisk) -> Iterator[str]:
    outcomes = [attempt["outcome"] for attempt in disk.attempts]
    if any(attempt["ended_ms"] is None or attempt["outcome"] is None for attempt in disk.attempts):
        yield f"an attempt has no end: {outcomes}"
    if outcomes.count("completed") > (disk.row["state"] == "completed"):
        yield f"it was run to completion more often than it was completed: {outcomes}"


def _output(disk: OnDisk) -> Iterator[str]:
    position = 0
    for first, count, events in disk.output:
        if first != position or events.count(b"\n\n") != count:
            yield f"its output on disk has {count} events from {first} on where {position} comes next"
            return
        position += count
    if position != disk.row["pieces"]:
        yield f"its output on disk ends at {position}, its row says {disk.row['pieces']}"


def _terminal(end: Seen, row: Row) -> Iterator[str]:
    told = json.loads(end.data)
    if end.kind == "end":
        pairs: list[tuple[object, object]] = [("completed", row["state"])]
        pairs += [(told[name], row[name]) for name in ("tokens_in", "tokens_out", "stop_reason")]
    else:
        state = "cancelled" if told["code"] == "CANCELLED" else "failed"
        pairs = [(state, row["state"]), (told["code"], row["error_code"]), (told["message"], row["error_message"])]
    pairs += [(end.id, (row["pieces"], row["final_event"]))]
    yield from (f"readers were told {was_told}, its row says {kept}" for was_told, kept in pairs if was_told != kept)


def _stored(whole: Transcript, disk: OnDisk) -> Iterator[str]:
    seen = b"".join(
        b"event: token\nid: %d.%d\ndata: %b\n\n" % (*event.id, event.data)
        for event in whole.events
        if event.kind == "token"
    )
    if seen != b"".join(events for _, _, events in disk.output):
        yield "its output on disk is not what readers saw"


def _text(job: Job, whole: Transcript, disk: OnDisk) -> Iterator[str]:
    text, expected = text_of(whole.events), job.expected
    reference = expected.reference
    if reference is not None and not reference.allows(text, is_whole=disk.row["state"] == "completed"):
        yield f"its text is {text!r}, undisturbed it is {reference.text!r}, unsure at {reference.unsure}"
    if any(stop in text for stop in expected.stop):
        yield f"its text holds a stop sequence: {text!r}"
    tokens_out = disk.row["tokens_out"]
    if isinstance(tokens_out, int) and tokens_out > expected.max_tokens:
        yield f"it has {tokens_out} tokens, {expected.max_tokens} were asked for"


def _end(expected: Expected, disk: OnDisk) -> Iterator[str]:
    """Ask whether the job had a right to end as it did."""
    row, code = disk.row, disk.row["error_code"]
    tries = sum(attempt["outcome"] not in FREE_OUTCOMES for attempt in disk.attempts)
    allowed = (
        code is None
        or (code == "CANCELLED" and expected.may_cancel)
        or (code in {"TIMEOUT", "QUEUE_TIMEOUT"} and expected.may_be_late)
        or (bool(row["error_retriable"]) and tries >= MAX_ATTEMPTS)
        or (bool(row["error_retriable"]) and expected.may_be_late and tries > 0 and _no_time_left(row, tries))
    )
    if not allowed:
        outcomes = [attempt["outcome"] for attempt in disk.attempts]
        yield f"it ended with {code} ({row['error_message']}) after {outcomes}"


def _no_time_left(row: Row, tries: int) -> bool:
    finished_ms, deadline_ms = row["finished_ms"], row["deadline_ms"]
    assert isinstance(finished_ms, int)
    assert isinstance(deadline_ms, int)
    return finished_ms + (BACK_OFF_MS << (tries - 1)) >= deadline_ms
