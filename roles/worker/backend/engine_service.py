"""What an engine process of ours does once its model is loaded: tokenises, generates, tells.

Strategy: the thread that computes owns the model and all texts. Another one tokenises, so that counting a prompt does
not wait for a step, and a third writes, so that a worker which is slow to read stops nobody. Queues join them.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from llorch import errors
from roles.worker.backend import engine_answer
from roles.worker.backend.engine_answer import Answer
from roles.worker.backend.engine_messages import (
    Asked,
    AskText,
    AskTokens,
    Drop,
    Dropped,
    Pieces,
    Tokens,
    Told,
    refused,
)
from roles.worker.backend.engine_text import Step, Text, text_of


class Slots(Protocol):
    """A model at work; one thread alone calls it."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        ...

    def add(self, text: Text) -> None:
        """Take a text; it waits for a slot."""
        ...

    def drop(self, text_id: int) -> None:
        """Forget a text; harmless when it is over."""
        ...

    def step(self) -> Iterator[Step]:
        """Compute once; yield what came of it."""
        ...


class Words(engine_answer.Words, Protocol):
    """A model's tokeniser; another thread calls it."""

    def prompt(self, text: str, behind: str, *, begin: bool) -> list[int]:
        """Return the tokens of a text and of *behind*, which a model wrote; *begin* adds the model's own ones.

        Raises:
            InvalidRequest: They cannot be tokens.
        """
        ...


class Template(Protocol):
    """A model's chat template."""

    def render(self, messages: Sequence[Mapping[str, object]]) -> str:
        """Return the text of a conversation, up to where the answer begins.

        Raises:
            InvalidRequest: The model has no template, or it refuses these messages.
        """
        ...


class Outbox:
    """Lines on their way to the worker, in order."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._queue: queue.SimpleQueue[Told | None] = queue.SimpleQueue()
        self._written = threading.Event()

    def put(self, told: Told) -> None:
        """Have a line written; never waits."""
        self._queue.put(told)

    def last(self, told: Told) -> None:
        """Write the last line, and wait until the worker has it."""
        self._queue.put(told)
        self._queue.put(None)
        self._written.wait()

    def write(self) -> None:
        """Write what comes, up to the last line; the work of one thread."""
        encode = msgspec.json.Encoder().encode
        while (told := self._queue.get()) is not None:
            line = memoryview(encode(told) + b"\n")
            while line:
                line = line[os.write(self._pipe, line) :]
        self._written.set()


class Service:
    """One loaded model at work."""

    def __init__(self, slots: Slots, words: Words, template: Template, out: Outbox) -> None:
        self._slots = slots
        self._words = words
        self._template = template
        self._out = out
        self._answers: dict[int, Answer] = {}
        self._texts: queue.SimpleQueue[AskText | Drop] = queue.SimpleQueue()
        self._prompts: queue.SimpleQueue[AskTokens] = queue.SimpleQueue()

    def serve(self, asked: queue.SimpleQueue[bytes]) -> None:
        """Do what is asked, for ever."""
        for work in (lambda: self._sort(asked), self._tokenise):
            threading.Thread(target=_all_or_nothing, args=(work,), daemon=True).start()
        while True:
            self._take()
            self._step()

    def _sort(self, asked: queue.SimpleQueue[bytes]) -> None:
        """Give what is asked to the thread that does it."""
        decoder = msgspec.json.Decoder(Asked)
        while True:
            found = decoder.decode(asked.get())
            if isinstance(found, AskTokens):
                self._prompts.put(found)
            else:
                self._texts.put(found)

    def _tokenise(self) -> None:
        while True:
            asked = self._prompts.get()
            try:
                text = self._template.render(asked.messages) if asked.messages else asked.text
                tokens = self._words.prompt(text, asked.behind, begin=not asked.messages)
                self._out.put(Tokens(asked.id, tokens))
            except errors.InvalidRequest as error:
                self._out.put(refused(error, asked.id))

    def _take(self) -> None:
        """Take what has come; wait for something while there is nothing to compute."""
        while True:
            try:
                asked = self._texts.get(block=self._slots.idle)
            except queue.Empty:
                return
            if isinstance(asked, Drop):
                self._slots.drop(asked.id)
                self._answers.pop(asked.id, None)
                self._out.put(Dropped(asked.id))
            else:
                self._answers[asked.id] = Answer(self._words)
                self._slots.add(text_of(asked))

    def _step(self) -> None:
        found = []
        for step in self._slots.step():
            piece = self._answers[step.id].add(step)
            if step.stop is not None:
                del self._answers[step.id]
            if piece is not None:
                found.append(piece)
        if found:
            self._out.put(Pieces(found))


def _all_or_nothing(work: Callable[[], None]) -> None:
    """Run a thread's work; a fault in it ends the process, so that nobody waits for what will not come."""
    try:
        work()
    except BaseException:  # noqa: BLE001 - whatever it is, its traceback goes to the worker and nothing goes on
        import traceback

        traceback.print_exc()
        os._exit(1)
