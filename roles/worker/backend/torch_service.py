"""What the torch engine's process does once its model is loaded: tokenises, generates, tells.

Strategy: the thread that computes owns the model and all texts. Another one tokenises, so that counting a prompt does
not wait for a step, and a third writes, so that a worker which is slow to read stops nobody. Queues join them.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from llorch import errors
from roles.worker.backend.torch_messages import (
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

if TYPE_CHECKING:
    from roles.worker.backend.torch_answer import Answer
    from roles.worker.backend.torch_batching import Batching
    from roles.worker.backend.torch_template import ChatTemplate
    from roles.worker.backend.torch_tokenizer import Words


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

    def __init__(self, batching: Batching, words: Words, template: ChatTemplate, out: Outbox) -> None:
        self._batching = batching
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
        from roles.worker.backend.torch_answer import Answer
        from roles.worker.backend.torch_batching import Text, rules_of

        while True:
            try:
                asked = self._texts.get(block=self._batching.idle)
            except queue.Empty:
                return
            if isinstance(asked, Drop):
                self._batching.drop(asked.id)
                self._answers.pop(asked.id, None)
                self._out.put(Dropped(asked.id))
            else:
                self._answers[asked.id] = Answer(self._words)
                self._batching.add(Text(asked.id, asked.tokens, rules_of(asked), asked.max_tokens))

    def _step(self) -> None:
        found = []
        for step in self._batching.step():
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
