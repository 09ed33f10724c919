"""A model hub for tests: the addresses that the real huggingface_hub client uses, served from memory, with faults.

Files are served as the real hub does: `resolve` answers with the commit, the hash and the size, and redirects to a
store under another host name, which must never see the token. Texts are in git itself: their SHA-256 is told nowhere,
and `resolve` answers with them.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

PIECE_BYTES = 16 * 1024
TEXTS = (".json", ".jinja", ".md")
_RANGE = re.compile(r"^bytes=(\d+)-$")


@dataclass(slots=True)
class Repo:
    """A repository: its files, who may see it, and other names of the commit that `main` is at."""

    files: dict[str, bytes]
    token: str = ""
    gated: bool = False
    tags: tuple[str, ...] = ()

    @property
    def commit(self) -> str:
        """The commit that `main` is at; another one when a file changes."""
        told = "".join(f"{path}:{hashlib.sha256(data).hexdigest()}" for path, data in sorted(self.files.items()))
        return hashlib.sha1(told.encode()).hexdigest()


@dataclass(slots=True)
class Faults:
    """What goes wrong.

    `cuts` are shares of a file after which a connection breaks, one transfer each; `wrong` counts transfers whose bytes
    are not right; `statuses` are answered to the next requests of a kind (`api`, `head`, `get`); `hold_at` is the share
    of a file at which every transfer waits for `release`; `piece_s` is slept before each piece.
    """

    cuts: list[float] = field(default_factory=list)
    wrong: int = 0
    statuses: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    hold_at: float | None = None
    release: asyncio.Event = field(default_factory=asyncio.Event)
    piece_s: float = 0.0


class Hub:
    """The server. `seen` are its requests: kind, path, first byte asked for, whether with a token.

    Args:
        name: What its clients call it.
        store: What they call the same server as a store of files.
    """

    def __init__(self, name: str = "127.0.0.1", store: str = "localhost") -> None:
        self._name = name
        self._store_name = store
        self.repos: dict[str, Repo] = {}
        self.faults = Faults()
        self.seen: list[tuple[str, str, int, bool]] = []
        self.sent_bytes = 0
        self.holding = asyncio.Event()
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{self._name}:{self.port}"

    def add(self, repo: str, files: dict[str, Path], *, token: str = "", gated: bool = False) -> Repo:
        """Publish files as a repository."""
        data = {path: source.read_bytes() for path, source in files.items()}
        made = self.repos[repo] = Repo(data, token, gated)
        return made

    def ref(self, repo: str, path: str) -> str:
        """Return the pinned reference of a file."""
        return f"hf:{repo}@{self.repos[repo].commit}::file={path}"

    def count(self, kind: str) -> int:
        """Return how many requests of a kind there were."""
        return sum(1 for seen in self.seen if seen[0] == kind)

    async def start(self, listener: socket.socket | None = None) -> None:
        """Answer, at *listener* if there is one, else at the same port of this machine as before."""
        app = web.Application()
        app.router.add_get("/api/models/{org}/{name}/revision/{revision}", self._api)
        app.router.add_get("/api/models/{org}/{name}", self._api)
        app.router.add_route("*", "/{org}/{name}/resolve/{revision}/{path:.+}", self._resolve)
        app.router.add_get("/store/{sha}", self._store)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        if listener is not None:
            await web.SockSite(self._runner, listener).start()
        else:
            await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Break every connection and answer no more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _api(self, request: web.Request) -> web.Response:
        self._note("api", request)
        repo, refusal = self._allowed("api", request)
        if refusal is not None or repo is None:
            return refusal or web.Response(status=500)
        siblings = [
            {"rfilename": path, "size": len(data), "blobId": _blob(data)}
            | ({} if path.endswith(TEXTS) else {"lfs": {"sha256": _sha(data), "size": len(data), "pointerSize": 130}})
            for path, data in repo.files.items()
        ]
        name = f"{request.match_info['org']}/{request.match_info['name']}"
        return web.json_response({"id": name, "modelId": name, "sha": repo.commit, "siblings": siblings})

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        kind = "head" if request.method == "HEAD" else "resolve"
        self._note(kind, request)
        repo, refusal = self._allowed(kind, request)
        if refusal is not None or repo is None:
            return refusal or web.Response(status=500)
        data = repo.files.get(request.match_info["path"])
        headers = {"X-Repo-Commit": repo.commit}
        if data is None:
            return web.Response(status=404, headers={**headers, "X-Error-Code": "EntryNotFound"})
        if request.match_info["path"].endswith(TEXTS):
            headers["ETag"] = f'"{_blob(data)}"'
            if kind == "head":
                return web.Response(headers={**headers, "Content-Length": str(len(data))})
            return await self._send(request, data, headers)
        sha = _sha(data)
        headers |= {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": str(len(data)), "ETag": f'"{sha}"'}
        return web.Response(
            status=302, headers={**headers, "Location": f"http://{self._store_name}:{self.port}/store/{sha}"}
        )

    async def _store(self, request: web.Request) -> web.StreamResponse:
        self._note("get", request)
        if (told := self._fault("get")) is not None:
            return told
        sha = request.match_info["sha"]
        data = next(d for r in self.repos.values() for d in r.files.values() if _sha(d) == sha)
        return await self._send(request, data, {})

    async def _send(self, request: web.Request, data: bytes, headers: dict[str, str]) -> web.StreamResponse:
        asked = _RANGE.match(request.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if start >= len(data):
            return web.Response(status=416)
        cut = self.faults.cuts.pop(0) if self.faults.cuts else None
        end = len(data) if cut is None else max(start, round(cut * len(data)))
        if self.faults.wrong > 0:
            self.faults.wrong -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        response = web.StreamResponse(status=206 if asked else 200, headers=headers)
        response.content_length = len(data) - start
        if asked:
            response.headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        await response.prepare(request)
        position = start
        while position < end:
            if self.faults.hold_at is not None and position >= self.faults.hold_at * len(data):
                self.holding.set()
                await self.faults.release.wait()
            if self.faults.piece_s:
                await asyncio.sleep(self.faults.piece_s)
            piece = data[position : min(position + PIECE_BYTES, end)]
            await response.write(piece)
            position += len(piece)
            self.sent_bytes += len(piece)
        if cut is not None and request.transport is not None:
            request.transport.close()
        return response

    def _allowed(self, kind: str, request: web.Request) -> tuple[Repo | None, web.Response | None]:
        if (told := self._fault(kind)) is not None:
            return None, told
        repo = self.repos.get(f"{request.match_info['org']}/{request.match_info['name']}")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo is None or (repo.token and token != repo.token):
            # What is private is not admitted to be there.
            missing = 404 if token and repo is None else 401
            code = {"X-Error-Code": "RepoNotFound"} if missing == 404 else {}
            if repo is not None and token:
                return None, web.Response(status=403, headers={"X-Error-Message": "not for this token"})
            return None, web.Response(status=missing, headers=code)
        if repo.gated:
            return None, web.Response(status=403, headers={"X-Error-Code": "GatedRepo"})
        revision = request.match_info.get("revision", "main")
        if revision not in {"main", repo.commit, *repo.tags}:
            return None, web.Response(status=404, headers={"X-Error-Code": "RevisionNotFound"})
        return repo, None

    def _fault(self, kind: str) -> web.Response | None:
        waiting = self.faults.statuses.get(kind)
        if not waiting:
            return None
        status, headers = waiting.pop(0)
        return web.Response(status=status, headers=headers)

    def _note(self, kind: str, request: web.Request) -> None:
        asked = _RANGE.match(request.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.seen.append((kind, request.path, start, "Authorization" in request.headers))


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _blob(data: bytes) -> str:
    """Return what git calls a file of such bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@asynccontextmanager
async def running_hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    """Run a hub, and make it the one that this process and those that it starts know; *home* has no stored token."""
    hub = Hub()
    await hub.start()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("no_proxy", "*")
    try:
        yield hub
    finally:
        await hub.stop()
