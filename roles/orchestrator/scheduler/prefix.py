"""What a prompt begins with, as hashes and never as text: two prompts with the same mark begin alike up to it. Pure.

Strategy: one hash runs over the model's reference, the tools and the prompt; what it is at the end of each message and
of each block is a mark. Blocks grow with their distance from the beginning, so that the longest prompt has few. The
hash is keyed with what this process alone knows, and marks never leave its memory: nobody can try texts against them.
A picture is as long as a hash of it, because the bytes of a file say nothing of how long it takes to be looked at.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

from msgspec import UNSET

from llorch.wire.codec import encode
from llorch.wire.conversation import Message, TextPart, images_of
from llorch.wire.tasks import SubmitTask, calls_tools

FIRST_BLOCK_BYTES = 256
GROWTH = 4
"""A block is as long as this part of what is before it, and at least `FIRST_BLOCK_BYTES`."""
MOST_MARKS = 64
"""The last ones of a conversation of more messages are kept; no text alone has so many below a hundred megabytes."""


class Prefix:
    """The marks of one prompt, each with how many bytes there are up to it; 1 KiB at most."""

    __slots__ = ("_chat", "_hash", "ends", "length_bytes", "marks", "pictures")

    def __init__(self, begun: blake2b, *, chat: bool, pictures: bool = False) -> None:
        self.pictures = pictures
        self.marks: array[int] = array("Q")
        self.ends: array[int] = array("Q")
        self.length_bytes = 0
        self._hash = begun
        self._chat = chat

    def read(self, data: bytes, *, whole: bool) -> None:
        """Add what comes next; the end of something *whole*, such as a message, is marked too."""
        view, start = memoryview(data), 0
        while len(data) - start >= (left := self._block_end() - self.length_bytes):
            self._hash.update(view[start : start + left])
            self.length_bytes += left
            start += left
            self._mark()
        self._hash.update(view[start:])
        self.length_bytes += len(data) - start
        if whole and start < len(data):
            self._mark()

    def followed_by(self, answer: str) -> Prefix:
        """Return the marks of what a worker has computed once it has answered: the next turn begins so."""
        longer = Prefix(self._hash.copy(), chat=self._chat, pictures=self.pictures)
        longer.marks, longer.ends, longer.length_bytes = self.marks[:], self.ends[:], self.length_bytes
        if self._chat:
            longer.read(encode(Message(role="assistant", content=answer)), whole=True)
        else:
            longer.read(answer.encode(), whole=False)
        return longer

    def shared_bytes(self, marks: Sequence[int]) -> int:
        """Return up to where this prompt begins like another one with those marks."""
        for number in range(len(self.marks) - 1, -1, -1):
            if self.marks[number] in marks:
                return self.ends[number]
        return 0

    def _block_end(self) -> int:
        before = self.ends[-1] if self.ends else 0
        return before + max(FIRST_BLOCK_BYTES, before // GROWTH)

    def _mark(self) -> None:
        self.marks.append(int.from_bytes(self._hash.digest()))
        self.ends.append(self.length_bytes)
        if len(self.marks) > MOST_MARKS:
            del self.marks[0], self.ends[0]


def prefix_of(task: SubmitTask, model_ref: str, *, key: bytes) -> Prefix:
    """Return the marks of a request's prompt. Costs one pass over it.

    Args:
        task: What is asked for.
        model_ref: The model; another one computes something else of the same prompt.
        key: A secret of this process, at most 64 bytes.
    """
    begun = blake2b(encode([model_ref, task.tools if calls_tools(task) else None]), key=key, digest_size=8)
    if task.messages is UNSET:
        found = Prefix(begun, chat=False)
        found.read(task.prompt.encode() if isinstance(task.prompt, str) else b"", whole=False)
        return found
    found = Prefix(begun, chat=True, pictures=bool(images_of(task.messages)))
    for message in task.messages:
        found.read(_told(message), whole=True)
    return found


def _told(message: Message) -> bytes:
    """Return a message, and of each picture a hash."""
    if not isinstance(message.content, list):
        return encode(message)
    parts = [
        part if isinstance(part, TextPart) else blake2b(part.image_url.url.encode(), digest_size=16).hexdigest()
        for part in message.content
    ]
    return encode([message.role, parts])
