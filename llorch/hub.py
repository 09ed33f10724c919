"""The model hub as far as names go: which commit and which file a name means, how large it is, what its hash is.

`huggingface_hub` asks, so that HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE mean what they always mean. It is imported by
the first call that needs it, because that takes a third of a second. Its errors end here.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llorch import checkpoint_files, models, repo_files
from llorch.errors import Forbidden, HubUnreachable, InvalidRequest, LlorchError, ModelNotFound
from llorch.models import FileRef, HubRef, RepoRef, ServerRef
from llorch.wire.models import FileFacts

TIMEOUT_S = 10.0
FRESH_S = 600.0
AFTER_FAILURE_S = 2.0
MAX_KNOWN = 1000
MAX_REASON = 200
_OTHER_SHAPE = (AttributeError, KeyError, TypeError)
"""What the hub's client raises of JSON that is no answer of a hub's."""


@dataclass(frozen=True, slots=True)
class RepoFacts:
    """A repository at one commit: its files, by path."""

    repo: str
    commit: str
    files: tuple[FileFacts, ...]


@dataclass(frozen=True, slots=True)
class Pin:
    """A reference that names a commit, and the bytes that its files take; None where only a pool knows."""

    ref: str
    size_bytes: int | None = None


def look(repo: str, revision: str, *, timeout_s: float = TIMEOUT_S) -> RepoFacts:
    """Ask the hub for a repository's files at a revision. Blocks, for about *timeout_s* at the longest.

    Raises:
        ModelNotFound: There is no such repository or revision.
        Forbidden: It is private or gated; the message says what to set.
        HubUnreachable: The hub does not answer, is busy (with `retry_after_s`), or may not be asked.
    """
    with translated(f"hf:{repo}"):
        from huggingface_hub.hf_api import HfApi

        found = HfApi(endpoint=endpoint()).model_info(repo, revision=revision, files_metadata=True, timeout=timeout_s)
        files = [
            FileFacts(path=file.rfilename, size_bytes=file.size or 0, sha256=file.lfs.sha256 if file.lfs else "")
            for file in found.siblings or []
        ]
        if not HubRef(repo, found.sha or "", "").pinned:
            raise ValueError("it names no commit")
        return RepoFacts(repo, found.sha or "", tuple(files))


def pinned(name: HubRef | RepoRef, facts: RepoFacts) -> Pin:
    """Return what *name* means in a repository as it is. Pure.

    Raises:
        ModelNotFound: No such file; the message lists near ones.
        InvalidRequest: Several files could be meant, or it is one of safetensors.
    """
    paths = [file.path for file in facts.files]
    path = repo_files.choose(name.repo, paths) if isinstance(name, RepoRef) else models.parts(name.path)[0]
    files = needed(path, facts)
    return Pin(str(HubRef(name.repo, facts.commit, path)), sum(file.size_bytes for file in files))


def needed(path: str, facts: RepoFacts) -> list[FileFacts]:
    """Return the files that make up the model at *path*. Pure; raises as `pinned` does."""
    by_path = {file.path: file for file in facts.files}
    if path.endswith(".safetensors"):
        raise InvalidRequest(
            f"a file of safetensors is no model without those beside it: name hf:{facts.repo} alone, or the config.json"
        )
    wanted = models.parts(path)
    if path in by_path and checkpoint_files.names_one(path):
        try:
            wanted = checkpoint_files.files(path, by_path)
        except ModelNotFound as error:
            raise ModelNotFound(f"hf:{facts.repo}: {error.message}", details={"near": []}) from None
    missing = [part for part in wanted if part not in by_path]
    if missing:
        near = repo_files.near(missing[0], list(by_path))
        hint = f"did you mean {' or '.join(near)}?" if near else "see its page on the hub for what there is"
        raise ModelNotFound(f"hf:{facts.repo} has no file {missing[0]}; {hint}", details={"near": near})
    return [by_path[part] for part in wanted]


class Pins:
    """Pins names to commits; asks the hub once for any number of askers, and remembers for a while.

    Args:
        timeout_s: How long one answer of the hub is waited for.
    """

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._known: dict[str, tuple[float, RepoFacts | LlorchError]] = {}
        self._asked: dict[str, asyncio.Future[RepoFacts]] = {}

    async def pin(self, name: str, have: Iterable[tuple[str, int]] = (), *, newest: bool = False) -> Pin:
        """Return what *name*, a reference whose revision or file may be missing, means now.

        What a host already has is taken without asking the hub, so that a model in use never changes by itself and
        needs no hub. With *newest* it is the other way round, and a hub that does not answer is no reason to fail;
        a reference that names a commit is then looked up too, for its size.

        Args:
            name: A reference of any form.
            have: References that hosts have, each with the time it came there.
            newest: Ask the hub first.

        Raises:
            ModelNotFound: No such repository, revision or file.
            Forbidden: Private or gated.
            InvalidRequest: Several files could be meant.
            HubUnreachable: The hub is needed and cannot be asked.
        """
        parsed = models.parse_name(name)
        if isinstance(parsed, FileRef | ServerRef):
            return Pin(str(parsed))
        if isinstance(parsed, HubRef) and parsed.pinned:
            return await self._sized(parsed) if newest else Pin(str(parsed))
        local = at_hand(name, have)
        if local is not None and not newest:
            return Pin(local)
        try:
            return pinned(parsed, await self.facts(parsed.repo, parsed.revision))
        except HubUnreachable:
            if local is None:
                raise
            return Pin(local)

    async def _sized(self, ref: HubRef) -> Pin:
        try:
            return pinned(ref, await self.facts(ref.repo, ref.revision))
        except (Forbidden, HubUnreachable):  # whoever fetches it may know more
            return Pin(str(ref))

    async def facts(self, repo: str, revision: str) -> RepoFacts:
        """Return a repository's files at a revision, as `look` does."""
        key = f"{repo}@{revision}"
        until, known = self._known.get(key, (0.0, None))
        if known is not None and time.monotonic() < until:
            if isinstance(known, LlorchError):
                raise known.with_traceback(None)
            return known
        asked = self._asked.get(key)
        if asked is None:
            loop = asyncio.get_running_loop()
            asked = self._asked[key] = loop.run_in_executor(
                None, lambda: look(repo, revision, timeout_s=self._timeout_s)
            )
            asked.add_done_callback(lambda answered: self._answered(key, answered))
        try:
            async with asyncio.timeout(self._timeout_s * 2):
                return await asyncio.shield(asked)
        except TimeoutError:
            raise HubUnreachable(f"hf:{repo}: the model hub has not answered in {self._timeout_s * 2:.0f} s") from None

    def _answered(self, key: str, answered: asyncio.Future[RepoFacts]) -> None:
        del self._asked[key]
        if answered.cancelled():
            return
        error, now = answered.exception(), time.monotonic()
        while len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        if error is None:
            self._known[key] = (now + FRESH_S, answered.result())
        elif isinstance(error, LlorchError):
            self._known[key] = (now + (error.retry_after_s or AFTER_FAILURE_S), error)


def at_hand(name: str, have: Iterable[tuple[str, int]]) -> str | None:
    """Return the newest reference in *have* that *name* can mean; None when none or no single file is. Pure."""
    found = [(since, ref) for ref, since in have if models.stands_for(name, ref)]
    files = {ref.partition("::file=")[2] for _, ref in found}
    if len(files) > 1:
        repo = name.removeprefix("hf:").partition("@")[0]
        try:
            chosen = repo_files.choose(repo, sorted({*files, checkpoint_files.SINGLE}))  # a config.json has its weights
        except LlorchError:
            return None
        found = [(since, ref) for since, ref in found if ref.endswith(f"::file={chosen}")]
    return max(found)[1] if found else None


def endpoint() -> str | None:
    """Return where the hub is, when the environment says so."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise our errors for those of the hub's client; *what* is what was asked for."""
    import httpx2
    from huggingface_hub import errors as hub

    try:
        yield
    except hub.OfflineModeIsEnabled:
        offline = HubUnreachable(f"{what} is not on this host, and offline mode is on (HF_HUB_OFFLINE)")
        offline.retriable = False
        raise offline from None
    except hub.HfHubHTTPError as error:
        raise refused(what, error.response.status_code, dict(error.response.headers)) from None
    except (hub.HFValidationError, hub.LocalEntryNotFoundError) as error:
        raise ModelNotFound(f"{what}: {_first_line(error)}") from None
    except (httpx2.HTTPError, httpx2.StreamError, OSError, ValueError, *_OTHER_SHAPE) as error:
        raise HubUnreachable(f"{what}: the model hub does not answer as one: {_first_line(error)}") from None


def refused(what: str, status: int, headers: dict[str, str]) -> LlorchError:
    """Return the error for an answer of the hub from status 400 upwards. Pure.

    Source of the header: huggingface_hub, `hf_raise_for_status`; the hub answers 401 for what is private and for what
    is not there alike, unless it knows the caller.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    code = headers.get("x-error-code", "")
    if code == "GatedRepo":
        return Forbidden(f"{what} is gated: accept its terms on its page, and set HF_TOKEN to a token of that account")
    if status == 401:
        return Forbidden(f"the hub shows nobody {what}: it is private, or not there; set HF_TOKEN to a token that may")
    if status == 403:
        return Forbidden(f"the hub refuses {what}: set HF_TOKEN to a token that may read it")
    if status in {404, 410}:
        thing = {"RevisionNotFound": "has no such revision", "EntryNotFound": "has no such file"}.get(code, "")
        return ModelNotFound(f"{what} {thing or 'is not on the hub'}", details={"near": []})
    after = headers.get("retry-after", "")
    retry_after_s = int(after) if after.isdigit() else None
    if status == 429:
        return HubUnreachable(f"{what}: the hub asks for patience (status 429)", retry_after_s=retry_after_s)
    error = HubUnreachable(f"{what}: the hub answered with status {status}", retry_after_s=retry_after_s)
    error.retriable = status >= 500 or status in {408, 425}
    return error


def _first_line(error: Exception) -> str:
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return text[:MAX_REASON]
