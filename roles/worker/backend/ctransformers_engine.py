"""The engine ctransformers, for model files from before GGUF: our Protocol over `ctransformers_host`.

Its library is of 2023 and no longer maintained; it computes one text at a time, on the CPU. Imports nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from roles.worker.backend import ModelFacts
from roles.worker.backend.ctransformers_host import HostOptions
from roles.worker.backend.process_engine import ProcessEngine


class CTransformers(ProcessEngine):
    """One model file, in one engine process.

    Args:
        tasks: Owns the tasks that watch the process.
        model_path: The file.
        ctx: Context in tokens; 0 takes the model's own, up to 8192. Never more than that.
        threads: 0 takes one a core.
        batch: Tokens of a prompt that are read at once; a cancel waits for at most one such piece.
    """

    def __init__(
        self, tasks: asyncio.TaskGroup, model_path: Path, *, ctx: int = 0, threads: int = 0, batch: int = 128
    ) -> None:
        super().__init__(tasks, called="ctransformers", instead="take the model in GGUF form, with the engine llamacpp")
        self._options = HostOptions(path=str(model_path.absolute()), ctx=ctx, threads=threads, batch=batch)

    async def load(self, on_progress: Callable[[float], None]) -> ModelFacts:
        """Load the model; see `Engine.load`. The library does not tell how far it is."""
        on_progress(0)
        loaded = await self._process.load(self._options, on_progress)
        on_progress(100)
        return ModelFacts(
            context_length=loaded.context_length,
            vocab_size=loaded.vocab_size,
            quant_kind=loaded.quant_kind,
            memory_bytes=loaded.memory_bytes,
            slots=1,
        )
