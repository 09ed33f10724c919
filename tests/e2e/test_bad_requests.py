"""Clients that send garbage, half requests, huge bodies, or nothing at all on a thousand connections.

Each gets an error in our form, or a closed connection. The process lives, logs no traceback, and serves the others.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import resource
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from llorch.errors import Unreachable
from llorch.sse import Event, parse
from llorch.wire.tasks import TaskPage
from llorch.wire.workers import WorkerHealth
from tests.e2e.processes import Role, orchestrator_role, pool_role, role, text_of, until

HAIKU = {"model": "haiku", "prompt": "Write a haiku that contains the word nine", "temperature": 0}
MODEL = str(Path("llorch/assets/haiku.gguf").resolve())
PATIENCE_S = 60.0
MANY = 1_000
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"

HEADS: Mapping[str, bytes] = {
    "bytes": b"\x00\x01\x02\xff\xfe garbage\r\n\r\n",
    "words": b"hello there\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100f0010000ec0303") + b"x" * 100,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version that there is not": b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "a broken method": b"G\x7fT /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a broken address": b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bytes in the address": b"GET /caf\xe9?x=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an endless address": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "a control character in a header": GET + b"X-A: a\x01b\r\n\r\n",
    "a NUL in a header": GET + b"X-A: a\x00b\r\n\r\n",
    "a bare CR in a header": GET + b"X-A: a\rb\r\n\r\n",
    "an escape in a header": GET + b"X-Correlation-Id: \x1b[31m\r\n\r\n",
    "a control character in a header's name": GET + b"X\x01A: b\r\n\r\n",
    "a folded header": GET + b"X-A: a\r\n b\r\n\r\n",
    "an endless header": GET + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n",
    "headers without end": GET + b"".join(b"X-%d: a\r\n" % n for n in range(5_000)) + b"\r\n",
    "lines that end in LF": b"GET /health HTTP/1.1\nHost: localhost\n\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n{}",
    "a length in words": POST + b"Content-Length: ten\r\n\r\n{}",
    "a length beyond numbers": POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "an unknown transfer": POST + b"Transfer-Encoding: banana\r\n\r\n{}",
    "a chunk of no size": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a chunk of negative size": POST + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "a chunk of endless size": POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than it says": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n",
    "gzip that is none": POST + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    "an expectation": POST + b"Expect: the unexpected\r\nContent-Length: 2\r\n\r\n{}",
    "a type that is none": POST + b"Content-Type: \xff;;charset=banana\r\nContent-Length: 2\r\n\r\n{}",
    "nothing behind the head": POST + b"\r\n",
}
BODIES: Mapping[str, bytes] = {
    "empty": b"",
    "not JSON": b"hello",
    "not UTF-8": b'{"model": "\xff"}',
    "UTF-16": '{"model": "m"}'.encode("utf-16"),
    "cut off": b'{"model": "haiku", "prompt": "Wri',
    "a list": b"[]",
    "10 000 levels of lists": b"[" * 10_000 + b"]" * 10_000,
    "10 000 levels of objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "10 000 levels without end": b'{"prompt":' + b"[" * 10_000,
    "doubled keys": b'{"model": "haiku", "model": "haiku", "prompt": "x"}',
    "NaN": b'{"model": "haiku", "prompt": "x", "top_p": NaN}',
    "a number without end": b'{"model": "haiku", "prompt": "x", "seed": ' + b"9" * 100_000 + b"}",
    "a number beyond numbers": b'{"model": "haiku", "prompt": "x", "top_p": 1e999}',
    "half a character": rb'{"model": "haiku", "prompt": "\ud83d"}',
    "5 MB of a wrong type": b'{"model": "haiku", "prompt": [' + b'"x",' * 1_250_000 + b'"x"]}',
    "5 MB of keys": b"{" + b",".join(b'"key%d": 1' % n for n in range(360_000)) + b"}",
}


@asynccontextmanager
async def every_role(folder: Path) -> AsyncIterator[dict[str, tuple[Role, bytes]]]:
    """Run the three roles; yield each with an address that takes a body."""
    worker_role = role("worker", "--model", MODEL, "--port", "0", "--slots", "2", log=folder / "log")
    async with (
        orchestrator_role(folder) as orchestrator,
        pool_role(folder, orchestrator.url) as pool,
        worker_role as worker,
    ):
        yield {
            "orchestrator": (orchestrator, b"/v2/tasks"),
            "pool": (pool, b"/v2/workers/spawn"),
            "worker": (worker, b"/execute"),
        }


async def say(server: Role, data: bytes, *, end: bool = False) -> bytes:
    """Send bytes on a connection of their own; return all that comes back until the server closes it."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionError):
                writer.write(data)
                await writer.drain()
                if end:
                    writer.write_eof()
            try:
                return await reader.read()
            except ConnectionError:
                return b""
    finally:
        writer.transport.abort()


def told(answer: bytes) -> tuple[int, str]:
    """Return status and code of an answer, which must be in the form of all our errors; (0, "") for none."""
    if not answer:
        return 0, ""
    head, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert {"code", "message", "retriable", "correlation_id"} <= set(error), answer
    assert f"X-Correlation-Id: {error['correlation_id']}".encode() in head, answer
    assert len(error["message"]) < 1_000, answer
    return int(head.split()[1]), error["code"]


async def with_body(server: Role, path: bytes, body: bytes) -> tuple[int, str]:
    """Post a body; return status and code of the refusal."""
    return told(await say(server, POST % path + b"Content-Length: %d\r\n\r\n" % len(body) + body))


@asynccontextmanager
async def jobs_meanwhile(orchestrator: Role) -> AsyncIterator[list[list[Event]]]:
    """Run one job after the other for the length of the block, at least one; yield the list that they go to."""
    done: list[list[Event]] = []
    over = asyncio.Event()

    async def ask() -> None:
        while not (over.is_set() and done):
            done.append(await orchestrator.events((await orchestrator.submit(**HAIKU)).job_id))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask())
        yield done
        over.set()


def unharmed(streams: list[list[Event]]) -> bool:
    """Tell whether every job came to its end with its whole text."""
    return bool(streams) and all(s[-1].kind == "end" and "nine" in text_of(s).lower() for s in streams)


async def answers(server: Role) -> bool:
    """Tell whether a server is well."""
    return (await server.client.send("GET", "/health", dict[str, object]))["status"] in {"ok", "ready"}


def tracebacks(log: Path) -> list[str]:
    """Return the lines of a log that tell of a bug."""
    return [line for line in log.read_text().splitlines() if "Traceback" in line or "request_failed" in line]


async def test_what_is_no_http_is_refused_by_every_role_and_disturbs_nobody(tmp_path: Path) -> None:
    told_by: dict[str, dict[str, tuple[int, str]]] = {}
    async with every_role(tmp_path) as roles:
        async with jobs_meanwhile(roles["orchestrator"][0]) as streams:
            for name, (server, path) in roles.items():
                told_by[name] = {
                    case: told(await say(server, data.replace(b"%s", path))) for case, data in HEADS.items()
                }
        well = [await answers(server) for server, _ in roles.values()]

    expected = dict.fromkeys(HEADS, (400, "INVALID_REQUEST"))
    assert told_by == dict.fromkeys(roles, expected)
    assert well == [True] * 3
    assert unharmed(streams)
    assert tracebacks(tmp_path / "log") == []


async def test_a_body_that_makes_no_sense_is_refused_by_every_role_and_disturbs_nobody(tmp_path: Path) -> None:
    told_by: dict[str, dict[str, tuple[int, str]]] = {}
    async with every_role(tmp_path) as roles:
        async with jobs_meanwhile(roles["orchestrator"][0]) as streams:
            for name, (server, path) in roles.items():
                told_by[name] = {case: await with_body(server, path, body) for case, body in BODIES.items()}
        well = [await answers(server) for server, _ in roles.values()]

    expected = dict.fromkeys(BODIES, (400, "INVALID_REQUEST"))
    too_large = (413, "BODY_TOO_LARGE")
    assert told_by["orchestrator"] == told_by["worker"] == expected
    assert told_by["pool"] == expected | {case: too_large for case in BODIES if case.startswith("5 MB")}
    assert well == [True] * 3
    assert unharmed(streams)
    assert tracebacks(tmp_path / "log") == []


@pytest.mark.parametrize("framing", ["length", "chunks", "gzip"])
async def test_a_body_beyond_the_limit_is_refused_before_it_has_come(framing: str, tmp_path: Path) -> None:
    limit = 1024 * 1024
    env = {"LLORCH_ORCHESTRATOR_MAX_BODY_BYTES": str(limit)}
    arguments = ("orchestrator", "--port", "0", "--data-dir", str(tmp_path / "o"))
    body = b'{"model": "haiku", "prompt": "' + b"x" * limit
    head = POST % b"/v2/tasks"
    if framing == "length":
        sent = head + b"Content-Length: %d\r\n\r\n" % 2**40 + body
    elif framing == "chunks":
        sent = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b" % (2**40, body)
    else:
        packed = gzip.compress(b" " * 2**28)
        sent = head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    async with role(*arguments, log=tmp_path / "log", env=env) as server:
        memory_before = psutil.Process(server.process.pid).memory_info().rss

        refused = told(await say(server, sent, end=True))

        grown = psutil.Process(server.process.pid).memory_info().rss - memory_before
        well = await answers(server)

    assert refused == (413, "BODY_TOO_LARGE")
    assert grown < 64 * limit
    assert well


async def test_a_request_that_ends_in_the_middle_is_forgotten(tmp_path: Path) -> None:
    async with every_role(tmp_path) as roles:
        async with jobs_meanwhile(roles["orchestrator"][0]) as streams:
            for server, path in roles.values():
                whole = POST % path + b'Content-Length: 30\r\n\r\n{"model": "haiku", "prompt": "x'
                answered = [await say(server, whole[:cut], end=True) for cut in range(1, len(whole), 7)]
                assert set(map(told, answered)) <= {(0, ""), (400, "INVALID_REQUEST")}
        listed = await roles["orchestrator"][0].client.send("GET", "/v2/tasks", TaskPage)
        well = [await answers(server) for server, _ in roles.values()]

    assert len(listed.tasks) == len(streams)
    assert well == [True] * 3
    assert unharmed(streams)
    assert tracebacks(tmp_path / "log") == []


async def test_requests_sent_at_once_are_answered_in_order(tmp_path: Path) -> None:
    body = json.dumps(HAIKU).encode()
    submission = b"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    last = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url):
        answer = await say(orchestrator, (GET + b"\r\n" + submission) * 40 + last)
        listed = await orchestrator.client.send("GET", "/v2/tasks", TaskPage)
        streams = [await orchestrator.events(task.job_id) for task in listed.tasks]

    statuses = re.findall(rb"HTTP/1\.1 (\d+)", answer)
    assert statuses == [b"200", b"202"] * 40 + [b"404"]
    assert len(streams) == 40
    assert unharmed(streams)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_thousand_silent_connections_to_every_role_disturb_nobody(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 < hard < 4 * MANY:
        pytest.skip(f"this machine lets a process open {hard} files at most")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 4 * MANY), hard))
    writers: list[asyncio.StreamWriter] = []
    try:
        async with every_role(tmp_path) as roles:
            for server, path in roles.values():
                host, port = server.url.removeprefix("http://").split(":")
                for number in range(MANY):
                    _, writer = await asyncio.open_connection(host, int(port))
                    writer.write((b"", b"GET /hea", POST % path + b"Content-Length: 9\r\n\r\n{")[number % 3])
                    writers.append(writer)
            async with jobs_meanwhile(roles["orchestrator"][0]) as streams:
                well = [await answers(server) for server, _ in roles.values()]
                ran = await _ran_by_worker(roles["worker"][0])
            for writer in writers:
                writer.transport.abort()
            after = [await answers(server) for server, _ in roles.values()]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert len(writers) == 3 * MANY
    assert well == after == [True] * 3
    assert ran[-1].kind == "end"
    assert unharmed(streams)
    assert tracebacks(tmp_path / "log") == []


async def _ran_by_worker(worker: Role) -> list[Event]:
    await until(lambda: _is_ready(worker))
    body = {"job_id": "mine", "prompt": "Write a haiku"}
    async with worker.client.request("POST", "/execute", body=body) as response:
        return list(parse(await response.read()))


async def _is_ready(worker: Role) -> bool:
    return (await worker.client.send("GET", "/health", WorkerHealth)).status == "ready"


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux can change the limits of another process")
async def test_more_connections_than_files_cost_the_others_nothing_but_a_wait(tmp_path: Path) -> None:
    async with orchestrator_role(tmp_path) as orchestrator, pool_role(tmp_path, orchestrator.url):
        first = await orchestrator.events((await orchestrator.submit(**HAIKU)).job_id)
        for process in (psutil.Process(orchestrator.process.pid), *psutil.Process(orchestrator.process.pid).children()):
            used = process.num_fds()
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
        host, port = orchestrator.url.removeprefix("http://").split(":")
        writers = [(await asyncio.open_connection(host, int(port)))[1] for _ in range(200)]
        for writer in writers:
            writer.transport.abort()

        try:
            accepted = await orchestrator.submit(**HAIKU)
        except Unreachable:  # an idle connection is closed to make room; who uses it just then has to ask again
            accepted = await orchestrator.submit(**HAIKU)
        second = await orchestrator.events(accepted.job_id)

    assert unharmed([first, second])
