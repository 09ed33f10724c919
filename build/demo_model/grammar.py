"""The haiku generator of the demo model: fills the shapes of `shapes` so that every line scans (pure, seeded)."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .shapes import CLOSINGS, FIRST, MARKS, MIDDLES, OPENINGS, SECOND, TAILS, TALK
from .words import CLASS_OF, CLASSES, SYLLABLES, VOCABULARY, line_syllables

if TYPE_CHECKING:
    from random import Random

_SLOT: Final = re.compile(r"<([a-z]+)([1-5])>")
_TAIL: Final = re.compile(r" ?~([a-z]+)")
_CLASS: Final = {"b": "n", "t": "n", "p": "n", "h": "m"}
_VOWELS: Final = tuple("aeiou")
_TOPICS: Final = tuple(VOCABULARY)
_IN_FIRST: Final = 0.6
WORDS: Final[dict[tuple[str, int], tuple[str, ...]]] = {
    (name, count): tuple(word for word, n in table.items() if n == count)
    for name, table in CLASSES.items()
    for count in set(table.values())
}


@dataclass(frozen=True)
class Line:
    """One line with its slots: its text, the syllables beside the topic, and whether it has its own final mark."""

    text: str
    fixed: int
    marked: bool


def fixed_syllables(text: str) -> int:
    """Return the syllables of a shape, its topic not counted."""
    slots = sum(int(count) for _, count in _SLOT.findall(text))
    rest = line_syllables(re.sub(r"\bX\b", " ", _SLOT.sub(" ", text)))
    if rest is None:
        message = f"a word without syllables in {text!r}"
        raise ValueError(message)
    return slots + rest


def _line(text: str) -> Line:
    return Line(text, fixed_syllables(text), marked=text[-1] in "!?.:")


def _joined(head: str, tail: str, mark: str) -> str:
    return head + (f" {tail}" if tail else "") + mark


@functools.cache
def heads(where: str, name: str, total: int, count: int) -> tuple[tuple[Line, ...], ...]:
    """Return the lines of `total` syllables for a topic of a class and `count` syllables, grouped by their heads."""
    found = []
    for head in (FIRST if where == "first" else SECOND)[name]:
        tail = _TAIL.search(head)
        if tail is None:
            lines = [_line(head)]
        else:
            before, mark = head[: tail.start()], head[tail.end() :]
            lines = [_line(_joined(before, text, mark)) for text in TAILS[tail[1]]]
        fitting = tuple(line for line in lines if line.fixed + count == total)
        if fitting:
            found.append(fitting)
    return tuple(found)


@functools.cache
def _plain(texts: tuple[str, ...]) -> tuple[Line, ...]:
    return tuple(map(_line, texts))


def class_of(word: str) -> str:
    """Return the name under which `shapes` lists the heads for a topic."""
    name = CLASS_OF[word]
    return _CLASS.get(name, name)


def _filled(rng: Random, line: Line, topic: str, used: set[str]) -> str:
    """Return a line with words in its slots: none twice in a poem, no vowel after "a"."""

    def word(match: re.Match[str]) -> str:
        choices = WORDS[match[1], int(match[2])]
        after_a = line.text[: match.start()].endswith((" a ", "A ")) or line.text[: match.start()] == "a "
        while True:
            chosen = rng.choice(choices)
            stem = chosen.rstrip("s")
            if stem not in used and not (after_a and chosen.startswith(_VOWELS)):
                used.add(stem)
                return chosen

    return re.sub(r"\bX\b", topic, _SLOT.sub(word, line.text))


def _poem(rng: Random, lines: tuple[Line, Line, Line], kinds: tuple[str, str, str], topic: str) -> str:
    used = {topic.rstrip("s")}
    out, opening = [], True
    for line, kind in zip(lines, kinds, strict=True):
        text = _filled(rng, line, topic, used) + ("" if line.marked else rng.choice(MARKS[kind]))
        out.append(text[:1].upper() + text[1:] if opening else text)
        opening = text[-1] in ".!?…"
    return "\n".join(out)


def haiku(rng: Random, topic: str) -> str:
    """Return a 5-7-5 haiku that holds a word of the vocabulary or a number word, in its first or second line."""
    name, count = class_of(topic), SYLLABLES[topic]
    closing = rng.choice(_plain(CLOSINGS))
    first = heads("first", name, 5, count)
    if first and rng.random() < _IN_FIRST:
        lines = (rng.choice(rng.choice(first)), rng.choice(_plain(MIDDLES)), closing)
        return _poem(rng, lines, ("first", "middle", "last"), topic)
    second = rng.choice(rng.choice(heads("second", name, 7, count)))
    return _poem(rng, (rng.choice(_plain(OPENINGS)), second, closing), ("opening", "middle", "last"), topic)


def any_haiku(rng: Random) -> str:
    """Return a haiku about any word."""
    return haiku(rng, rng.choice(_TOPICS))


def talk(rng: Random, kind: str) -> str:
    """Return a 5-7-5 answer to what is no request for a haiku."""
    lines = (rng.choice(_plain(TALK[kind])), rng.choice(_plain(MIDDLES)), rng.choice(_plain(CLOSINGS)))
    return _poem(rng, lines, ("first", "middle", "last"), "")
