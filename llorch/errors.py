"""Every error raised on purpose: a stable code, an HTTP status, whether a retry can help. No I/O.

    LlorchError
    ├── CallerError      the caller's fault; the same request fails again      4xx
    ├── BusyError        nobody's fault; the same request may succeed later    408, 429, 503, 507
    └── PeerError        another process or host failed us                     502, 504

The code is a promise to clients, the message is prose for people. Neither ever holds a prompt, an output,
a token, or a path of the server.
"""

from __future__ import annotations

from collections.abc import Mapping


class LlorchError(Exception):
    """An expected failure, ready to be shown.

    Args:
        message: One sentence: what happened, why, and what to do where that is known.
        details: JSON-able facts for programs (offending fields, byte counts, near names).
        retry_after_s: Seconds after which a retry may succeed; sent as `Retry-After`.
    """

    code = "INTERNAL"
    status = 500
    retriable = False

    def __init__(
        self, message: str, *, details: Mapping[str, object] | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.retry_after_s = retry_after_s


class RemoteError(LlorchError):
    """An error that another llorch process answered with; it keeps that answer's code and status."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        retriable: bool = False,
        details: Mapping[str, object] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message, details=details, retry_after_s=retry_after_s)
        self.code = code
        self.status = status
        self.retriable = retriable


class CallerError(LlorchError):
    """The caller's fault: the same request will fail again."""

    status = 400


class InvalidRequest(CallerError):
    """The request does not say what it must; `details["fields"]` names every offending field."""

    code = "INVALID_REQUEST"


class InvalidConfiguration(CallerError):
    """A configuration that cannot be used; the message names the file, the key, what was found, what is allowed."""

    code = "INVALID_CONFIGURATION"


class MissingToken(CallerError):
    """No bearer token where one is needed."""

    code = "MISSING_TOKEN"
    status = 401


class InvalidToken(CallerError):
    """A bearer token that is not the one expected."""

    code = "INVALID_TOKEN"
    status = 401


class Forbidden(CallerError):
    """Known caller, not allowed."""

    code = "FORBIDDEN"
    status = 403


class OriginNotAllowed(CallerError):
    """A web page that may not use this server."""

    code = "ORIGIN_NOT_ALLOWED"
    status = 403


class HostNotAllowed(CallerError):
    """Reached by a name that is none of this server's, as by a page whose own name was made to lead here."""

    code = "HOST_NOT_ALLOWED"
    status = 403


class NotFound(CallerError):
    """No such address."""

    code = "NOT_FOUND"
    status = 404


class JobNotFound(CallerError):
    """No job with that id, or its retention time is over."""

    code = "JOB_NOT_FOUND"
    status = 404


class ModelNotFound(CallerError):
    """No model by that name, or no file where the reference points."""

    code = "MODEL_NOT_FOUND"
    status = 404


class PoolNotFound(CallerError):
    """No pool with that id."""

    code = "POOL_NOT_FOUND"
    status = 404


class WorkerNotFound(CallerError):
    """No worker with that id."""

    code = "WORKER_NOT_FOUND"
    status = 404


class MethodNotAllowed(CallerError):
    """The address exists, the method does not."""

    code = "METHOD_NOT_ALLOWED"
    status = 405


class Conflict(CallerError):
    """The request contradicts the present state: a key, a pool id or a sequence number used otherwise."""

    code = "CONFLICT"
    status = 409


class InsufficientMemory(CallerError):
    """The model does not fit; `details` has `required_bytes` and `available_bytes`."""

    code = "INSUFFICIENT_MEMORY"
    status = 409


class BackendUnavailable(CallerError):
    """This host cannot compute on what was asked for; the message lists what it has."""

    code = "BACKEND_UNAVAILABLE"
    status = 409


class ModelInvalid(CallerError):
    """The file is truncated, or not a model file."""

    code = "MODEL_INVALID"
    status = 409


class ModelIncompatible(CallerError):
    """A sound model file that this engine cannot run."""

    code = "MODEL_INCOMPATIBLE"
    status = 409


class BodyTooLarge(CallerError):
    """The body is larger than the configured limit."""

    code = "BODY_TOO_LARGE"
    status = 413


class BusyError(LlorchError):
    """Nobody's fault: the same request may succeed later."""

    status = 503
    retriable = True


class RequestTimeout(BusyError):
    """The request's body did not come in time; over a better line the same one may."""

    code = "REQUEST_TIMEOUT"
    status = 408


class QueueFull(BusyError):
    """The queue has reached its capacity; `retry_after_s` comes from the measured service rate."""

    code = "QUEUE_FULL"
    status = 429


class Draining(BusyError):
    """This process is shutting down, or an operator drains this pool: no new work is taken."""

    code = "DRAINING"


class AllSlotsBusy(BusyError):
    """The worker has no free slot."""

    code = "ALL_SLOTS_BUSY"


class NotReady(BusyError):
    """The worker has not finished loading its model."""

    code = "NOT_READY"


class NoPool(BusyError):
    """No pool is online."""

    code = "NO_POOL"


class DiskFull(BusyError):
    """The disk is full; nothing was accepted or changed."""

    code = "DISK_FULL"
    status = 507


class StorageUnavailable(BusyError):
    """The queue's database cannot be written now (read-only, locked by another process); nothing was accepted."""

    code = "STORAGE_UNAVAILABLE"


class PeerError(LlorchError):
    """Another process or host failed us."""

    status = 502
    retriable = True


class WorkerLost(PeerError):
    """The worker died, or its connection broke, before the end."""

    code = "WORKER_LOST"


class CannotContinue(PeerError):
    """The worker was lost in the middle of an answer that no other can go on with; the same request may succeed."""

    code = "CANNOT_CONTINUE"


class PoolUnreachable(PeerError):
    """The pool does not answer."""

    code = "POOL_UNREACHABLE"


class HubUnreachable(PeerError):
    """The model hub does not answer, answers with its own failure, or asks for patience."""

    code = "HUB_UNREACHABLE"


class DownloadFailed(PeerError):
    """The process that fetches a model died."""

    code = "DOWNLOAD_FAILED"


class Unreachable(PeerError):
    """The server that was asked does not answer; the message says where and what to start."""

    code = "UNREACHABLE"


class Refused(Unreachable):
    """Nothing listens at the address: the process that did is gone."""


class EngineFailed(PeerError):
    """The engine inside a worker reported an error or died."""

    code = "ENGINE_FAILED"


class TimeoutExceeded(PeerError):
    """A time limit passed: `TIMEOUT`, or one of its kin given as *code*."""

    code = "TIMEOUT"
    status = 504

    def __init__(self, message: str, *, code: str = "TIMEOUT", details: Mapping[str, object] | None = None) -> None:
        super().__init__(message, details=details)
        self.code = code
        self.retriable = code != "TIMEOUT"


class Cancelled(CallerError):
    """The job was cancelled. Only ever an event, never a status."""

    code = "CANCELLED"
    status = 409
