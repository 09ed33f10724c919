"""The torch engine: our Protocol over the process that computes in `torch_host`. Imports no torch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from llorch import errors
from llorch.wire.pools import Backend
from roles.worker.backend import ModelFacts
from roles.worker.backend.gpus import sight
from roles.worker.backend.llamacpp_options import device_index
from roles.worker.backend.process_engine import ProcessEngine
from roles.worker.backend.torch_config import DTYPE_NAMES
from roles.worker.backend.torch_host import HostOptions

DEFAULT_CTX = 8192


class Torch(ProcessEngine):
    """One checkpoint in Hugging Face's layout, in one engine process.

    Args:
        tasks: Owns the tasks that watch the process.
        model_path: The checkpoint's folder, or a file in it.
        backend: What to compute on.
        device: Which one, such as `cuda:1`.
        dtype: What to compute in: bfloat16, float16, float32.
        slots: Jobs at a time.
        ctx: Context of one slot in tokens; 0 takes the model's own, up to 8192.
        threads: 0 takes one a core.
        batch: Tokens of a prompt that are read at once; a cancel waits for at most one such piece.
    """

    def __init__(  # noqa: PLR0913 - the options of an engine
        self,
        tasks: asyncio.TaskGroup,
        model_path: Path,
        *,
        backend: Backend = "cpu",
        device: str = "",
        dtype: str = "bfloat16",
        slots: int = 1,
        ctx: int = 0,
        threads: int = 0,
        batch: int = 128,
    ) -> None:
        super().__init__(tasks, called="torch", instead="take the model in GGUF form")
        self._path = model_path.absolute()
        self._backend = backend
        self._gpus = [device_index(device)] if device else []
        self._dtype = dtype
        self._slots = slots
        self._options = HostOptions(
            folder="",
            backend=backend,
            device_index=device_index(device),
            environment={},
            dtype=dtype,
            slots=slots,
            ctx=ctx,
            max_ctx=DEFAULT_CTX,
            threads=threads,
            batch=batch,
        )

    async def load(self, on_progress: Callable[[float], None]) -> ModelFacts:
        """Load the model; see `Engine.load`."""
        folder = await asyncio.to_thread(_folder, self._path)
        seen = await asyncio.to_thread(sight, self._backend, self._gpus)
        told = msgspec.structs.replace(
            self._options,
            folder=str(folder),
            device_index=seen.number(self._options.device_index),
            environment=seen.environment,
        )
        loaded = await self._process.load(told, on_progress)
        on_progress(100)
        return ModelFacts(
            context_length=loaded.context_length,
            vocab_size=loaded.vocab_size,
            quant_kind=DTYPE_NAMES[self._dtype],
            memory_bytes=loaded.memory_bytes,
        )


def _folder(path: Path) -> Path:
    """Return the checkpoint's folder.

    Raises:
        ModelNotFound: There is nothing.
        ModelInvalid: It is a file in another form.
    """
    if path.is_dir():
        return path
    if not path.exists():
        raise errors.ModelNotFound(f"there is no model at {path}")
    if path.suffix not in {".safetensors", ".json"}:
        raise errors.ModelInvalid(f"{path.name} is no model in safetensors form; give the folder of one")
    return path.parent
