"""Bodies of OpenAI's files and batches. No I/O.

Source: https://platform.openai.com/docs/api-reference (files, batch). Times are Unix seconds, as there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Purpose = Literal["batch", "batch_output"]
BatchEndpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is kept until `expires_at`, or as long as a batch needs it."""

    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"
    object: Literal["file"] = "file"


class FileList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of files; `last_id` is the `after` of the next."""

    data: list[FileObject]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None
    object: Literal["list"] = "list"


class FileDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a deletion."""

    id: str
    deleted: bool = True
    object: Literal["file"] = "file"


class CreateBatch(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/batches`."""

    input_file_id: Annotated[str, Meta(min_length=1, max_length=64)]
    endpoint: BatchEndpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None


class BatchProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a line of an input file; lines count from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchProblems(msgspec.Struct, frozen=True, kw_only=True):
    """All that is wrong, or the first of it."""

    data: list[BatchProblem]
    object: Literal["list"] = "list"


class BatchCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many lines there are, and how many of them have an answer or failed."""

    total: int
    completed: int
    failed: int


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch and how far it is."""

    id: str
    endpoint: str
    input_file_id: str
    status: BatchStatus
    created_at: int
    expires_at: int
    request_counts: BatchCounts
    errors: BatchProblems | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    metadata: dict[str, str] | None = None
    completion_window: Literal["24h"] = "24h"
    object: Literal["batch"] = "batch"


class BatchList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of batches, newest first."""

    data: list[Batch]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None
    object: Literal["list"] = "list"


class BatchLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an input file: a request."""

    custom_id: Annotated[str, Meta(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


class LineResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What a request was answered with."""

    status_code: int
    request_id: str
    body: msgspec.Struct | msgspec.Raw


class LineError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was not carried out."""

    code: str
    message: str


class LineResult(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an output or error file."""

    id: str
    custom_id: str
    response: LineResponse | None = None
    error: LineError | None = None
