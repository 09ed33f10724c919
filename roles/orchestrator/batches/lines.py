"""Lines of batch files: what a request is, what is wrong with one, and what its result is. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import UNSET

from llorch.errors import InvalidRequest, LlorchError
from llorch.wire.batches import BatchLine, BatchProblem, BatchStatus, LineError, LineResponse, LineResult
from llorch.wire.codec import FieldProblem, decode, encode, invalid
from llorch.wire.openai import ChatRequest, CompletionRequest
from llorch.wire.openai_embeddings import EmbeddingRequest
from llorch.wire.responses import ResponsesRequest
from llorch.wire.tasks import MAX_TIMEOUT_MS, SubmitTask
from roles.orchestrator.batches.folder import Line
from roles.orchestrator.dialects import openai as words
from roles.orchestrator.dialects import openai_replies as replies
from roles.orchestrator.dialects.answer import Answer
from roles.orchestrator.dialects.embeddings import embedding_task, embeddings
from roles.orchestrator.dialects.responses import task as response_task
from roles.orchestrator.dialects.responses_replies import whole_reply
from roles.orchestrator.dialects.too_long import PromptField
from roles.orchestrator.queue.retry import LEFT_MS
from roles.orchestrator.state.batches import LineRow
from roles.orchestrator.state.rows import JobRow

MAX_LINES = 50_000
MAX_PROBLEMS = 20
"""So many are told; an answer does not grow with the file."""
WINDOW = 256
"""Requests of batches that are jobs at the same time, but for the first of each batch."""
PROMPT_FIELDS: Mapping[str, PromptField] = {"/v1/chat/completions": "messages", "/v1/completions": "prompt"}
NEVER_RAN = {"QUEUE_TIMEOUT"}
MOST_LATE = 5
LATE_MS = 60_000
"""A job that waited for less than this had as much time with a worker as any."""
UNDONE = {
    "expired": LineError(
        code="batch_expired", message="This request could not be executed before the completion window expired."
    ),
    "cancelled": LineError(code="batch_cancelled", message="This request was not executed: the batch was cancelled."),
}


def problem(text: bytes, number: int, *, endpoint: str, longest: int) -> BatchProblem | BatchLine:
    """Return the request in a line, or what is wrong with the line as such. Its body is judged when it is carried out.

    Args:
        text: The line.
        number: For the message.
        endpoint: The address that the batch is for.
        longest: Bytes that a line may have.
    """
    if len(text) > longest:
        return BatchProblem(code="line_too_long", message=f"the line is longer than {longest} bytes", line=number)
    try:
        found = decode(text, BatchLine)
    except InvalidRequest as error:
        told = error.message.removeprefix("the request is not valid: ")
        return BatchProblem(code="invalid_json_line", message=told, line=number)
    if found.url != endpoint:
        message = f"the batch is for {endpoint}; a batch has one endpoint"
        return BatchProblem(code="mismatched_url", message=message, line=number, param="url")
    return found


def sorted_out(read: Iterable[Line], *, endpoint: str, longest: int) -> tuple[list[LineRow], list[BatchProblem]]:
    """Return the requests in some lines, and what is wrong with others; empty lines are neither. See `problem`."""
    fresh: list[LineRow] = []
    problems: list[BatchProblem] = []
    for line in read:
        if line.text.strip():
            found = problem(line.text, line.number, endpoint=endpoint, longest=longest)
            if isinstance(found, BatchProblem):
                problems.append(found)
            else:
                fresh.append(LineRow(line.number, found.custom_id, line.start))
    return fresh, problems


def duplicate(number: int) -> BatchProblem:
    """Return what is wrong with a line whose custom_id another one has."""
    message = "another line has the same custom_id"
    return BatchProblem(code="duplicate_custom_id", message=message, line=number, param="custom_id")


Wanted = ChatRequest | CompletionRequest | EmbeddingRequest | ResponsesRequest
_KINDS: Mapping[str, type[Wanted]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/embeddings": EmbeddingRequest,
    "/v1/responses": ResponsesRequest,
}


def asked(line: BatchLine) -> Wanted:
    """Return what a line asks for.

    Raises:
        InvalidRequest: Its body says not what it must.
    """
    found: Wanted = decode(encode(line.body), _KINDS[line.url])
    if not isinstance(found, EmbeddingRequest) and found.stream:
        raise invalid([FieldProblem("stream", "not supported in a batch")])
    return found


def tasks(wanted: Wanted, batch_id: str, *, room: int | None, left_ms: int) -> list[SubmitTask]:
    """Return the jobs that a line asks for: behind what is urgent, and in turn with other batches.

    Args:
        wanted: What it asks for.
        batch_id: The session of its jobs, unless it names one.
        room: The model's context, if it is known.
        left_ms: Until the batch expires.

    Raises:
        InvalidRequest: It asks for what llorch cannot do.
    """
    if isinstance(wanted, EmbeddingRequest):
        found = [embedding_task(wanted)]
    elif isinstance(wanted, ResponsesRequest):
        found = [response_task(wanted, room=room)]
    elif isinstance(wanted, ChatRequest):
        found = words.chat_tasks(wanted, room=room)
    else:
        found = words.completion_tasks(wanted, room=room)
    return [
        msgspec.structs.replace(
            task,
            priority="batch",
            on_disconnect="continue",
            session_id=batch_id if task.session_id is UNSET else task.session_id,
            timeout_ms=max(1, min(MAX_TIMEOUT_MS, left_ms)),
        )
        for task in found
    ]


def body(wanted: Wanted, found: list[Answer], *, created_s: int) -> msgspec.Struct:
    """Return what a line is answered with, from what its jobs have put out.

    Raises:
        InvalidRequest: They have not what was asked for.
    """
    if isinstance(wanted, EmbeddingRequest):
        return embeddings(found[0], wanted)
    if isinstance(wanted, ResponsesRequest):
        return whole_reply(found[0], wanted, created_s=created_s, ended_s=created_s)
    build = replies.chat_reply if isinstance(wanted, ChatRequest) else replies.completion_reply
    return build(found, name=wanted.model, created_s=created_s)


def key(batch_id: str, number: int, answer: int, again: int) -> str:
    """Return the idempotency key of a job: a restart that asks again gets the same one."""
    return f"{batch_id}/{number}/{answer}/{again}"


def again(error: LlorchError, job: JobRow | None, *, late: int) -> bool:
    """Return whether a request whose job has failed is asked for once more: a batch has more time than a job.

    One that never ran is, always. One that had less time with a worker than a job may have is `MOST_LATE` times, so
    that what takes too long, or kills its workers, comes to an end.

    Args:
        error: What its job has ended with.
        job: That job; None when it has been purged.
        late: How often it has been asked for again because of too little time with a worker.
    """
    if error.code in NEVER_RAN:
        return True
    if late >= MOST_LATE:
        return False
    if error.code != "TIMEOUT":
        return LEFT_MS in (error.details or {})
    return job is not None and job.dispatched_ms is not None and job.dispatched_ms - job.submitted_ms >= LATE_MS


def answered(custom_id: str, body: msgspec.Struct | msgspec.Raw, *, status: int = 200) -> bytes:
    """Return the line that tells what a request was answered with, an error or not; *body* may be JSON already."""
    response = LineResponse(status_code=status, request_id=str(uuid.uuid4()), body=body)
    return _line(LineResult(id=_id(), custom_id=custom_id, response=response))


def failed(custom_id: str, error: LlorchError, correlation_id: str, *, endpoint: str) -> bytes:
    """Return the line that tells the error a request to *endpoint* was answered with."""
    asked = PROMPT_FIELDS.get(endpoint, "input")
    return answered(custom_id, replies.error_reply(error, correlation_id, asked=asked), status=error.status)


def undone(custom_id: str, status: BatchStatus) -> bytes:
    """Return the line of a request that was not carried out."""
    return _line(LineResult(id=_id(), custom_id=custom_id, error=UNDONE[status]))


def room(*, flying: int, waiting: int, capacity: int) -> int:
    """Return how many more requests may become jobs now: half of what the queue has left, and `WINDOW` in all.

    Args:
        flying: Requests that are jobs; they may all be among those that wait.
        waiting: Jobs in the queue.
        capacity: Of the queue; -1 is unbounded.
    """
    free = WINDOW - flying
    return max(0, min(free, -(-(capacity - waiting - flying) // 2)) if capacity >= 0 else free)


def share(*, own: int, ended: int, flying: int, hungry: int, waiting: int, capacity: int) -> int:
    """Return how many more requests of one batch may become jobs now, so that no batch waits for another's end.

    What may be jobs at the same time is shared evenly by the batches that have requests left. Where others have it all,
    one that has no job may have a first one beyond `WINDOW`, but never beyond the queue.

    Args:
        own: Its requests that are jobs.
        ended: Requests that are jobs of batches that have none left.
        flying: Requests that are jobs, of all batches.
        hungry: Batches that have requests left, this one included.
        waiting: Jobs in the queue.
        capacity: Of the queue; -1 is unbounded.
    """
    free = room(flying=flying, waiting=waiting, capacity=capacity)
    fair = -(-(flying + free - ended) // hungry)
    if own == 0 and free == 0 and flying >= WINDOW and (capacity < 0 or waiting + flying < capacity):
        return 1
    return max(0, min(free, fair - own))


def count_problem(total: int) -> Sequence[BatchProblem]:
    """Return what is wrong with a file of so many requests."""
    if total > MAX_LINES:
        message = f"the file has more than {MAX_LINES} requests; split it"
        return [BatchProblem(code="too_many_lines", message=message, line=MAX_LINES + 1)]
    return [] if total else [BatchProblem(code="empty_file", message="the file has no requests")]


def _line(result: LineResult) -> bytes:
    return encode(result) + b"\n"


def _id() -> str:
    return f"batch_req_{uuid.uuid4().hex}"
