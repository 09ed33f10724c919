"""Addresses of OpenAI's files and batches: a file of requests, each a job like any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from llorch import errors, log
from llorch.edge import BODY_SILENCE_S, Endpoint, Parameter, bearer, correlation_id, query, read, reply
from llorch.wire.batches import Batch, BatchList, CreateBatch, FileDeleted, FileList, FileObject
from llorch.wire.codec import FieldProblem, invalid
from roles.orchestrator.api.keys import BATCHES
from roles.orchestrator.api.openai import WORDS
from roles.orchestrator.state.batches import FileRow

MAX_LIMIT = 10_000
MAX_FIELD_BYTES = 1024
MAX_FIELDS = 16
CHUNK_BYTES = 256 * 1024


async def upload(request: web.Request) -> web.Response:
    """POST /v1/files: take in a file, in pieces, as it comes."""
    registry = request.app[BATCHES]
    row: FileRow | None = None
    fields: dict[str, str] = {}
    try:
        async for part in _parts(request):
            if part.name == "file" and row is None:
                row = await registry.receive(_chunks(part), _name(part.filename))
            else:
                fields[str(part.name)[:40]] = await _text(part)
            if len(fields) > MAX_FIELDS:
                raise errors.InvalidRequest("the form has too many fields; it needs purpose and file alone")
        problems = [FieldProblem("file", "required")] if row is None else []
        if fields.get("purpose") != "batch":
            problems.append(FieldProblem("purpose", "expected batch: files are for nothing else here"))
        problems += [FieldProblem(name, "not supported") for name in fields if name != "purpose"]
        if problems or row is None:
            raise invalid(problems)
        added = await registry.add(row)
        row = None
        return reply(added)
    finally:
        if row is not None:
            await asyncio.shield(registry.discard(row))


async def files(request: web.Request) -> web.Response:
    """GET /v1/files: newest first, unless `order` is asc."""
    given = query(request, "after", "limit", "order", "purpose")
    problems = [FieldProblem("order", "expected asc or desc")] if given.get("order", "asc") not in _ORDERS else []
    limit = _limit(given, problems, default=MAX_LIMIT)
    newest = given.get("order") != "asc"
    purpose = given.get("purpose")
    return reply(
        await request.app[BATCHES].files(after=given.get("after"), purpose=purpose, limit=limit, newest=newest)
    )


async def file(request: web.Request) -> web.Response:
    """GET /v1/files/{id}."""
    query(request)
    return reply(await request.app[BATCHES].file(request.match_info["id"]))


async def content(request: web.Request) -> web.StreamResponse:
    """GET /v1/files/{id}/content: what is in it."""
    query(request)
    path = await request.app[BATCHES].content(request.match_info["id"])
    return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})


async def delete(request: web.Request) -> web.Response:
    """DELETE /v1/files/{id}."""
    query(request)
    await request.app[BATCHES].delete(request.match_info["id"])
    return reply(FileDeleted(id=request.match_info["id"]))


async def create(request: web.Request) -> web.Response:
    """POST /v1/batches: carry out a file of requests."""
    wanted = await read(request, CreateBatch)
    token = bearer(request)
    owner = log.fingerprint(token) if token else ""
    return reply(await request.app[BATCHES].create(wanted, owner=owner, correlation_id=correlation_id(request)))


async def batches(request: web.Request) -> web.Response:
    """GET /v1/batches: newest first."""
    given = query(request, "after", "limit")
    limit = _limit(given, [], default=20)
    return reply(await request.app[BATCHES].batches(after=given.get("after"), limit=limit))


async def batch(request: web.Request) -> web.Response:
    """GET /v1/batches/{id}."""
    query(request)
    return reply(await request.app[BATCHES].batch(request.match_info["id"]))


async def cancel(request: web.Request) -> web.Response:
    """POST /v1/batches/{id}/cancel: end it with what has been answered until now."""
    query(request)
    return reply(await request.app[BATCHES].cancel(request.match_info["id"]))


async def _parts(request: web.Request) -> AsyncIterator[BodyPartReader]:
    """Yield the parts of a form.

    Raises:
        InvalidRequest: The body is no form, or is cut off.
        RequestTimeout: It stopped coming.
    """
    if request.content_type != "multipart/form-data":
        raise errors.InvalidRequest("the body must be multipart/form-data with the fields purpose and file")
    with _translated():
        reader = await request.multipart()
    while True:
        with _translated():
            async with asyncio.timeout(BODY_SILENCE_S):
                part = await reader.next()
        if part is None:
            return
        if not isinstance(part, BodyPartReader):
            raise errors.InvalidRequest("the body's parts must not have parts themselves")
        yield part


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while True:
        with _translated():
            async with asyncio.timeout(BODY_SILENCE_S):
                chunk = await part.read_chunk(CHUNK_BYTES)
        if not chunk:
            return
        yield bytes(chunk)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise our errors for those of aiohttp's reader of forms."""
    try:
        yield
    except TimeoutError:
        raise errors.RequestTimeout("the body did not come in time; send the request again") from None
    except (ValueError, web.RequestPayloadError, HttpProcessingError):
        raise errors.InvalidRequest("the body is not the form that its headers tell of") from None


def _name(told: str | None) -> str:
    """Return the name of a file; bytes of it that are not UTF-8 are told as such."""
    return (told or "file").encode("utf-8", "replace").decode()[:255]


async def _text(part: BodyPartReader) -> str:
    found = bytearray()
    async for chunk in _chunks(part):
        found += chunk
        if len(found) > MAX_FIELD_BYTES:
            raise invalid([FieldProblem(str(part.name)[:40], f"longer than {MAX_FIELD_BYTES} bytes")])
    return found.decode("utf-8", "replace")


def _limit(given: Mapping[str, str], problems: list[FieldProblem], *, default: int) -> int:
    text = given.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_LIMIT):
        problems = [*problems, FieldProblem("limit", f"expected an integer from 1 to {MAX_LIMIT}")]
    if problems:
        raise invalid(problems)
    return int(text)


_ORDERS = ("asc", "desc")
_AFTER = Parameter("after", {"type": "string"}, description="The `last_id` of the page before.")
_FILE, _BATCH = "/v1/files/{id}", "/v1/batches/{id}"


def _paged(default: int) -> Parameter:
    return Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": default})


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/files",
        upload,
        "Upload a file of requests: a form with the fields `purpose`, which is batch, and `file`.",
        replies={200: FileObject},
        form={"purpose": {"type": "string", "const": "batch"}, "file": {"type": "string", "format": "binary"}},
        refusals=(408, 413, 503, 507),
        words=WORDS,
    ),
    Endpoint(
        "GET",
        "/v1/files",
        files,
        "The files, newest first.",
        replies={200: FileList},
        parameters=(
            _AFTER,
            _paged(MAX_LIMIT),
            Parameter("order", {"type": "string", "enum": list(_ORDERS), "default": "desc"}),
            Parameter("purpose", {"type": "string"}),
        ),
        words=WORDS,
    ),
    Endpoint("GET", _FILE, file, "One file.", replies={200: FileObject}, words=WORDS),
    Endpoint("GET", _FILE + "/content", content, "What is in it.", media_type="application/octet-stream", words=WORDS),
    Endpoint("DELETE", _FILE, delete, "Delete it.", replies={200: FileDeleted}, refusals=(409,), words=WORDS),
    Endpoint(
        "POST",
        "/v1/batches",
        create,
        "Carry out a file of requests within a day.",
        body=CreateBatch,
        replies={200: Batch},
        refusals=(503, 507),
        words=WORDS,
    ),
    Endpoint(
        "GET",
        "/v1/batches",
        batches,
        "The batches, newest first.",
        replies={200: BatchList},
        parameters=(_AFTER, _paged(20)),
        words=WORDS,
    ),
    Endpoint("GET", _BATCH, batch, "One batch, and how far it is.", replies={200: Batch}, words=WORDS),
    Endpoint(
        "POST", _BATCH + "/cancel", cancel, "End it with what has been answered.", replies={200: Batch}, words=WORDS
    ),
)
