"""The process of the engine ctransformers: loads one model file from before GGUF, or an early one, and serves it."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import psutil

from roles.worker.backend.ctransformers_file import LARGEST_CONTEXT, look
from roles.worker.backend.engine_messages import Ready
from roles.worker.backend.engine_process import run, threads_for
from roles.worker.backend.engine_service import Outbox, Service

MAX_PIECE = 128
"""Tokens of a prompt that are read at once at most: the library's buffers are made for not many more."""
STACK_BYTES = 256 * 1024 * 1024
"""The library's tokeniser goes one call deeper for each letter of a long word."""


class HostOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is told; `ctx` 0 is the model's own, up to 8192."""

    path: str
    ctx: int
    threads: int
    batch: int


def main(argv: list[str]) -> int:
    """Load the model and serve it until the worker ends or kills this process; return the exit status."""
    threading.stack_size(STACK_BYTES)
    options = msgspec.json.decode(argv[0], type=HostOptions)
    return run("ctransformers", lambda out: _load(options, out))


def _load(options: HostOptions, out: Outbox) -> Service:
    path = Path(options.path)
    file = look(path)
    ctx = min(options.ctx or LARGEST_CONTEXT, file.context_length)

    from roles.worker.backend.chat_template import ChatTemplate
    from roles.worker.backend.ctransformers_model import Model
    from roles.worker.backend.ctransformers_slot import Slot
    from roles.worker.backend.ctransformers_tokens import Words

    model = Model(path, file, ctx=ctx, threads=options.threads or threads_for(path.stat().st_size))
    words = Words(
        model.bytes, file.specials, unsaid=file.unsaid, begin=model.bos if file.begins else None, tokens=model.tokens
    )
    out.put(Ready(model.ctx, model.vocab_size, int(psutil.Process().memory_info().rss), file.quantization))
    return Service(
        Slot(model, piece=min(options.batch, MAX_PIECE)), words, ChatTemplate(file.template, file.names), out
    )
