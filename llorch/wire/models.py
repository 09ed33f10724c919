"""What pools, the orchestrator and people tell each other about model files and downloads. No I/O."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

DownloadState = Literal[
    "planned", "queued", "looking", "downloading", "verifying", "waiting", "complete", "failed", "cancelled"
]
Origin = Literal["builtin", "hub", "file", "registered"]
ModelRef = Annotated[str, Meta(min_length=1, max_length=1024)]
Source = Annotated[
    str, Meta(pattern=r"^https?://[^\s/]+/?$(?!\n)", max_length=256, description="a URL such as http://host:9200")
]


class DownloadModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST …/models/download`: fetch the file of a reference that names a commit.

    `sources` are pools that have it and are asked before the hub. With `size_bytes`, too little space is a refusal
    instead of a failed download. `evict` lets the pool delete the models that were used least recently to make room;
    `dry_run` only tells which those would be.
    """

    model_ref: ModelRef
    sources: Annotated[list[Source], Meta(max_length=64)] = msgspec.field(default_factory=list)
    size_bytes: Annotated[int, Meta(ge=0, le=2**60)] | UnsetType = UNSET
    evict: bool = False
    dry_run: bool = False


class Download(msgspec.Struct, frozen=True, kw_only=True):
    """A download and how far it is; rate and time left are those of the last seconds.

    `source` is `hub` or the URL of a pool. While it waits, `error` says for what, and `retry_at_ms` until when.
    """

    download_id: str
    model_ref: str
    state: DownloadState
    bytes_done: int = 0
    bytes_total: int | UnsetType = UNSET
    rate_bytes_s: float = 0.0
    seconds_left: float | UnsetType = UNSET
    source: str | UnsetType = UNSET
    created_ms: int = 0
    retry_at_ms: int | UnsetType = UNSET
    error: str | UnsetType = UNSET
    error_code: str | UnsetType = UNSET
    details: dict[str, Any] | UnsetType = UNSET

    @property
    def percent(self) -> float:
        """How much of it is there."""
        total = self.bytes_total
        return round(100 * self.bytes_done / total, 1) if isinstance(total, int) and total > 0 else 0.0


FINAL: frozenset[DownloadState] = frozenset({"complete", "failed", "cancelled"})


class DownloadList(msgspec.Struct, frozen=True):
    """The downloads of a pool, oldest first; ended ones are kept for a while."""

    downloads: list[Download]


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a download request; `evict` are the models that were, or would be, deleted for it."""

    download_id: str
    state: DownloadState
    events_url: str
    evict: list[Evicted] = msgspec.field(default_factory=list)


class Evicted(msgspec.Struct, frozen=True, kw_only=True):
    """A model that makes room for another."""

    model_id: str
    model_ref: str
    size_bytes: int
    last_used_ms: int


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a model: its name, and what is right; `sha256` is empty where nobody has told it."""

    path: str
    size_bytes: int
    sha256: str = ""


class StoredModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model on a pool's disk, whole or not: what the catalogue knows beyond its metadata."""

    model_id: str
    model_ref: str
    origin: Origin
    size_bytes: int
    files: list[FileFacts]
    aliases: list[str] = msgspec.field(default_factory=list)
    architecture: str = ""
    quantization: str = ""
    context_length: int = 0
    parameters: int | UnsetType = UNSET
    pinned: bool = False
    in_use: bool = False
    added_ms: int = 0
    last_used_ms: int = 0
    verified_ms: int | UnsetType = UNSET
    corrupt: bool = False


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a deletion: the space that came free."""

    model_id: str
    model_ref: str
    freed_bytes: int


class FileCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One file's hash: what it is, what it should be; `expected` is empty where nobody has told it before."""

    path: str
    sha256: str
    expected: str
    ok: bool


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a verification. A model that is not sound is not listed any more and starts no worker."""

    model_id: str
    model_ref: str
    ok: bool
    files: list[FileCheck]


class RegisterModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v2/models/register` and `/unregister`: list a model file of one's own, or not any more."""

    model_ref: ModelRef


class Unregistered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer when a model file is not listed any more; the file itself is as it was."""

    model_id: str
    model_ref: str


class PinModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v2/models/{id}/pin`: whether a model is kept when room is needed."""

    pinned: bool = True


class DiskUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What takes the space; `budget_bytes` 0 is no limit but the disk's."""

    total_bytes: int
    free_bytes: int
    models_bytes: int
    partial_bytes: int
    budget_bytes: int
    models: list[StoredModel]


class PreloadModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v2/models/preload`: a worker is soon to load it."""

    model_ref: ModelRef


class Preloading(msgspec.Struct, frozen=True):
    """The answer to `POST /v2/models/preload`: so many bytes are being read, 0 where that would be in vain now."""

    model_ref: str
    reading_bytes: int
