"""The life of an engine process of ours, whatever it computes with: loads one model, serves it, ends with its worker.

Computing takes the interpreter lock too often, or for too long, to share a process with something that has to answer;
and a library that crashes or hangs must not take the worker with it. The worker starts this process, gives it its
options as one JSON argument, and keeps a pipe to its stdin: where that ends, the worker is gone, and so is this. What
is said in both directions is in `engine_messages`.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable

from llorch import errors
from llorch.program import die_with_parent, with_extra
from roles.worker.backend.engine_messages import Refused, refused
from roles.worker.backend.engine_service import Outbox, Service
from roles.worker.llamacpp_host import SMALL_MODEL_BYTES


def run(engine: str, load: Callable[[Outbox], Service]) -> int:
    """Load the model and serve it until the worker ends or kills this process; return the exit status.

    Args:
        engine: What it is called.
        load: Tells its progress, and that it is ready; raises what the worker is to be told.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C and a stop go to the whole group: the worker drains first
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
    pipe = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no answer
    out = Outbox(pipe)
    threading.Thread(target=out.write, daemon=True).start()
    asked: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(asked,), daemon=True).start()
    try:
        service = load(out)
    except errors.LlorchError as error:
        out.last(refused(error))
        return 1
    except ImportError as error:
        why = f"the engine {engine} needs packages that cannot be loaded here ({error}); {with_extra(engine)}"
        out.last(Refused("BackendUnavailable", why))
        return 1
    service.serve(asked)
    return 0


def threads_for(size_bytes: int) -> int:
    """Return one a core, but one in all for a small model: threads that wait for each other do so in a busy loop."""
    if size_bytes < SMALL_MODEL_BYTES:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(asked: queue.SimpleQueue[bytes]) -> None:
    """Pass on what the worker asks; end with it."""
    with os.fdopen(0, "rb") as pipe:
        for line in pipe:
            asked.put(line)
    os._exit(0)
