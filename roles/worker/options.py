"""How a worker is started. Types only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llorch.origins import ONLY_LOCAL, Guests
from llorch.settings import Server
from llorch.wire.engine_options import PLAIN, EngineOptions
from llorch.wire.pools import Backend, Engine

Dtype = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options of one worker; all but the model have defaults that work without a pool.

    Attributes:
        model_path: The model file.
        model_ref: What it is called on the wire; empty is `file:` and the absolute path.
        worker_id: Empty draws a UUID.
        token: The bearer token that all endpoints but `/health` ask for, and that the callback carries; empty asks
            for none.
        callback_url: Whole URL that is told once the model is loaded; empty tells nobody.
        backend: What to compute on.
        device: Which one: `cuda:1`, `1`; empty is the first.
        split: Lays the model over several devices: of each, how many parts of it, such as `cuda:0 = 17, cuda:1 = 16`.
        engine: The code that does it.
        dtype: What the engine torch computes in.
        slots: Jobs at a time.
        ctx: Context of one slot in tokens; 0 is the model's own, up to 8192. Never more than the model's own.
        threads: CPU threads; 0 is one a core.
        batch: Tokens computed at once while a prompt is read; a cancellation waits for at most one batch.
        reattach_s: How long a job without a reader goes on, and how long the events of a finished one are kept.
        drain_s: How long running jobs may take when the worker is told to stop and not how long.
        engine_options: How the engine runs the model; files are paths.
        orphan_s: How long it goes on without a job and without its pool; 0 for ever.
        snapshots: A folder of the model's own, for what slots hold when the worker is stopped; empty keeps nothing.
        snapshot_bytes: What that folder and those beside it may take together.
        server: Where the model is, or how it is started, for the engine `openai`; `model_ref` says which it is there.
        guests: Whose web pages may use it, and its names.
        max_body_bytes: Larger requests are answered with 413.
    """

    model_path: Path
    model_ref: str = ""
    worker_id: str = ""
    token: str = ""
    callback_url: str = ""
    backend: Backend = "cpu"
    device: str = ""
    split: str = ""
    engine: Engine = "llamacpp"
    dtype: Dtype = "bfloat16"
    slots: int = 4
    ctx: int = 0
    threads: int = 0
    batch: int = 128
    reattach_s: float = 60.0
    drain_s: float = 25.0
    engine_options: EngineOptions = PLAIN
    orphan_s: float = 0.0
    snapshots: str = ""
    snapshot_bytes: int = 0
    server: Server | None = None
    guests: Guests = ONLY_LOCAL
    max_body_bytes: int = 64 * 1024 * 1024
