"""The engines that the contract's tests run, one `Kind` each: how its models are made, and how it is started.

An engine is added by one more function that returns a `Kind`, and its name in `KINDS`. An engine whose packages are not
installed is skipped, with that reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from llorch import errors
from llorch.models import ServerRef
from llorch.settings import Server
from llorch.wire.tasks import Sampling, Talk
from roles.worker.backend import Chunk, Engine, Prompt
from roles.worker.backend.ctransformers_engine import CTransformers
from roles.worker.backend.llamacpp import LlamaCpp
from roles.worker.backend.openai_engine import OpenAiServer
from roles.worker.backend.torch_engine import Torch
from tests.support import checkpoints, models, old_models
from tests.support.models import TINY, Shape
from tests.support.servers import LlamaServer, command, free_port

PATIENCE_S = 60.0
Start = Callable[[asyncio.TaskGroup, Path, int, int], Engine]
WRONG: Mapping[str, type[errors.LlorchError]] = {
    "missing": errors.ModelNotFound,
    "foreign": errors.ModelInvalid,
    "cut": errors.ModelInvalid,
    "unknown": errors.ModelIncompatible,
}
"""What an engine that reads a model's file says of one that is bad in such a way."""


@dataclass(frozen=True, slots=True)
class Kind:
    """An engine under test.

    Attributes:
        name: What `--engine` calls it.
        needs: The packages without which it is skipped.
        make: Writes a random-weight model with the vocabulary of `models` under a folder and returns its path:
            the folder, the shape, and roughly what the end token's score is moved by.
        start: Returns the engine, not loaded: its tasks, the model, slots, and tokens read at once.
        spoil: Of each way in which a model can be bad, what makes it so: gets the path of a sound model, returns the
            path of the bad one.
        pid: The process that computes.
        said: What each token of its `TINY` model stands for, and the tokens that begin and end a text.
        lacks: What it does not do: `logprobs`, `slots`, `grammar`, `bias`, `cancel-prefill`. Of a server, whose model
            and tokens are its own, also `ids` (it gets text, and tells no ids) and `memory` (it does not tell any).
        wrong: Of each way in which a model can be bad, what the engine says of it.
    """

    name: str
    needs: Sequence[str]
    make: Callable[[Path, Shape, float], Path]
    start: Start
    spoil: Mapping[str, Callable[[Path], Path]]
    pid: Callable[[Any], int]
    said: Callable[[], tuple[list[bytes], int, int]]
    lacks: frozenset[str] = field(default_factory=frozenset)
    wrong: Mapping[str, type[errors.LlorchError]] = field(default_factory=lambda: WRONG)

    @property
    def missing(self) -> list[str]:
        """Which of the packages are not installed."""
        return [package for package in self.needs if find_spec(package) is None]


def _gguf(folder: Path, shape: Shape, eos_logit: float) -> Path:
    return models.make(folder / "model.gguf", shape, eos_logit=eos_logit)


def _foreign(path: Path) -> Path:
    path.write_text("this is not a model\n" * 100)
    return path


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


SPOIL_GGUF: Mapping[str, Callable[[Path], Path]] = {
    "missing": lambda path: path.with_name("missing.gguf"),
    "foreign": _foreign,
    "cut": _cut,
    "unknown": lambda path: models.make(path, architecture="zebra"),
}


def llamacpp() -> Kind:
    """GGUF in llama.cpp."""
    return Kind(
        name="llamacpp",
        needs=["xllamacpp"],
        make=_gguf,
        start=lambda tasks, path, slots, batch: LlamaCpp(tasks, path, slots=slots, threads=1, batch=batch),
        spoil=SPOIL_GGUF,
        pid=lambda engine: engine._process.pid,
        said=vocabulary,
    )


def openai() -> Kind:
    """A server that is not llorch's, llama.cpp's own, which the engine starts by its command."""

    def start(tasks: asyncio.TaskGroup, path: Path, slots: int, batch: int) -> Engine:
        port = free_port()
        sizes = ["--slots", str(slots), "--batch", str(batch), "--ctx", "0"]
        told = command(path, port, "--alias", LlamaServer.name, *sizes)
        return OpenAiServer(
            tasks, ServerRef("own", LlamaServer.name), Server(url=f"http://127.0.0.1:{port}/v1", command=tuple(told))
        )

    def pid(engine: OpenAiServer) -> int:
        guard = engine._command._process
        assert guard is not None
        (server,) = psutil.Process(guard.pid).children()
        return server.pid

    return Kind(
        name="openai",
        needs=["xllamacpp"],
        make=_gguf,
        start=start,
        spoil=SPOIL_GGUF,
        pid=pid,
        said=vocabulary,
        lacks=frozenset({"grammar", "ids", "memory"}),
        wrong=dict.fromkeys(WRONG, errors.EngineFailed),  # whatever keeps a server from loading, it just ends
    )


def torch() -> Kind:
    """Safetensors in torch."""

    def foreign(path: Path) -> Path:
        (path / "model.safetensors").write_text("this is not a model\n" * 100)
        return path

    def cut(path: Path) -> Path:
        weights = path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
        return path

    def unknown(path: Path) -> Path:
        config = path / "config.json"
        config.write_text(config.read_text().replace('"llama"', '"zebra"'))
        return path

    return Kind(
        name="torch",
        needs=["torch", "safetensors", "tokenizers", "jinja2"],
        make=lambda folder, shape, eos: checkpoints.make(folder / "model", shape, eos_logit=eos),
        start=lambda tasks, path, slots, batch: Torch(
            tasks, path, slots=slots, threads=1, batch=batch, dtype="float32"
        ),
        spoil={
            "missing": lambda path: path.with_name("missing"),
            "foreign": foreign,
            "cut": cut,
            "unknown": unknown,
        },
        pid=lambda engine: engine._process.pid,
        said=vocabulary,
        lacks=frozenset({"grammar"}),
    )


def ctransformers() -> Kind:
    """The last form before GGUF in ctransformers. Such a file says neither its context nor its chat template."""

    def make(folder: Path, shape: Shape, eos: float) -> Path:
        path = folder / f"context-{shape.ctx}.bin"
        path.write_bytes(old_models.llama(shape, eos_logit=eos))
        path.with_suffix(".jinja").write_text(models.CHAT_TEMPLATE)
        return path

    return Kind(
        name="ctransformers",
        needs=["ctransformers", "jinja2", "numpy"],
        make=make,
        start=lambda tasks, path, slots, batch: CTransformers(
            tasks, path, ctx=int(path.stem.partition("-")[2] or 0), threads=1, batch=batch
        ),
        spoil={
            "missing": lambda path: path.with_name("missing.bin"),
            "foreign": _foreign,
            "cut": _cut,
            "unknown": lambda path: models.make(path.with_name("zebra.gguf"), architecture="zebra"),
        },
        pid=lambda engine: engine._process.pid,
        said=old_models.said,
        lacks=frozenset({"grammar", "slots"}),
    )


KINDS: Mapping[str, Callable[[], Kind]] = {
    "ctransformers": ctransformers,
    "llamacpp": llamacpp,
    "openai": openai,
    "torch": torch,
}


@contextlib.asynccontextmanager
async def unloaded(kind: Kind, path: Path, *, slots: int = 1, batch: int = 128) -> AsyncIterator[Engine]:
    """Make an engine that is closed at the end."""
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        engine = kind.start(tasks, path, slots, batch)
        try:
            yield engine
        finally:
            await engine.close()


@contextlib.asynccontextmanager
async def running(kind: Kind, path: Path, *, slots: int = 1, batch: int = 128) -> AsyncIterator[Engine]:
    """Run an engine."""
    async with unloaded(kind, path, slots=slots, batch=batch) as engine:
        await engine.load(lambda _: None)
        yield engine


@dataclass(slots=True)
class Text:
    """All that came of one generation."""

    chunks: list[Chunk]

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def ids(self) -> list[int]:
        return [token for chunk in self.chunks for token in chunk.ids]

    @property
    def stop(self) -> str | None:
        return self.chunks[-1].stop


async def writing(
    kind: Kind,
    engine: Engine,
    prompt: str | Prompt | Sequence[int],
    *,
    max_tokens: int,
    seed: int = 1,
    **rules: object,
) -> AsyncGenerator[list[Chunk], None]:
    """Have an engine write behind a prompt as the worker does: behind its tokens, if the engine takes them.

    Greedy, unless the rules say otherwise.
    """
    told: dict[str, Any] = {"temperature": 0.0, **rules}
    given = Prompt(text=prompt) if isinstance(prompt, str) else prompt
    if "ids" in kind.lacks:
        assert isinstance(given, Prompt)
        return engine.converse(given, Talk(**told), max_tokens=max_tokens, seed=seed)
    tokens = await engine.tokenize(given) if isinstance(given, Prompt) else given
    return engine.generate(tokens, Sampling(**told), max_tokens=max_tokens, seed=seed)


async def generate(
    kind: Kind,
    engine: Engine,
    prompt: str | Prompt | Sequence[int],
    *,
    max_tokens: int = 24,
    seed: int = 1,
    **rules: object,
) -> Text:
    """Have an engine write to the end; see `writing`."""
    begun = await writing(kind, engine, prompt, max_tokens=max_tokens, seed=seed, **rules)
    async with aclosing(begun) as steps:
        return Text([chunk async for chunks in steps for chunk in chunks])


def vocabulary(shape: Shape = TINY) -> tuple[list[bytes], int, int]:
    """Return what each token of such a model stands for, and the tokens that begin and end a text."""
    tokens, _, _ = models._vocabulary(shape.words, shape.unused)
    stand_ins = {name: byte for byte, name in enumerate(models._byte_names())}
    special = ("<s>", "</s>")
    said = [b"" if name in special else bytes(stand_ins[c] for c in name) for name in tokens]
    return said, tokens.index("<s>"), tokens.index("</s>")


def copied(path: Path, folder: Path) -> Path:
    """Copy a model, which may be a file or a folder, into *folder*."""
    if path.is_dir():
        return Path(shutil.copytree(path, folder / path.name))
    return Path(shutil.copy(path, folder))
