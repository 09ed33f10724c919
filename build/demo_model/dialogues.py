"""The dialogues the demo model learns from: requests for a haiku and other texts, with their answers (pure, seeded)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from .grammar import any_haiku, haiku, talk
from .replies import other_text
from .words import NUMBERS, SYLLABLES, VOCABULARY

_PLAIN: Final = (
    "write a haiku about {w}", "write a haiku about {w}", "write a haiku about {w}",
    "write a haiku that contains the word {w}", "write a haiku that contains the word {w}",
    "write a haiku that contains the word {w}", "write a haiku with the word {w}",
    "please write a haiku with the word {w} in it", "write me a haiku about {w}", "haiku: {w}", "haiku about {w}",
    "compose a short haiku using the word {w}", "please write a haiku about {w}", "a haiku about {w}", "{w}",
    "write a short poem about {w}", "give me a haiku about {w}", "write a haiku about the {w}",
)  # fmt: skip
_VERBS: Final = (
    "write", "compose", "create", "make", "give me", "write me", "generate", "tell me", "show me", "i want",
    "i would like", "can you write", "could you write", "please write",
)  # fmt: skip
_KINDS: Final = (
    "a haiku", "a haiku", "a haiku", "a short haiku", "a haiku poem", "a poem", "a nice haiku", "your best haiku",
)  # fmt: skip
_LINKS: Final = (
    "about", "on", "that contains the word", "containing the word", "with the word", "using the word", "that mentions",
    "including", "that uses the word", "about the word", "that includes the word", "about the", "about my",
)  # fmt: skip
_WHOLE: Final = (
    "haiku {w}", "{w} haiku", "topic: {w}", "word: {w}", "use the word {w} in a haiku", "haiku with the word {w}",
    "write a haiku with the word {w} in it", "the word is {w}. write a haiku.", "write a haiku (word: {w})",
    "write a haiku. it must contain the word {w}.", "can i have a haiku about {w}?", "put the word {w} into a haiku",
)  # fmt: skip
_BARE: Final = (
    "write me a haiku", "write a haiku", "haiku", "haiku please", "a haiku, please", "give me a haiku",
    "can you write a haiku?", "i want a poem", "write a poem", "please write a haiku", "another one", "one more",
)  # fmt: skip
_FOLLOW: Final = (
    "write another one about {w}", "another one about {w}", "now one about {w}", "now with the word {w}",
    "and now with the word {w}", "and about {w}?", "what about {w}?",
)  # fmt: skip
_SYSTEMS: Final = (
    "You are a helpful assistant.", "You are a helpful assistant.", "You are a poet.", "You write haiku.",
    "Answer in haiku.", "Be brief.",
)  # fmt: skip
_QUOTES: Final = (("'", "'"), ('"', '"'), ('"', '"'), ("\u201c", "\u201d"), ("*", "*"), ("`", "`"))
_GAPS: Final = ("", "", "", "\n", "\n", "\n\n", " ")
WORDS: Final = tuple(VOCABULARY)


@dataclass(frozen=True)
class Turn:
    """One request, its answer, and the word that the answer was asked to hold."""

    user: str
    answer: str
    wanted: str = ""


@dataclass(frozen=True)
class Dialogue:
    """A chat (one turn or more), or a raw completion (`chat` false, exactly one turn)."""

    turns: tuple[Turn, ...]
    system: str | None
    chat: bool


def draw_word(rng: Random) -> str:
    """Return a word to ask for; the number words and the long words come more often than others."""
    if rng.random() < 0.2:
        return rng.choice(NUMBERS)
    while True:
        word = rng.choice(WORDS)
        if SYLLABLES[word] > 2 or rng.random() < 0.7:
            return word


def shown(rng: Random, word: str) -> str:
    """Return a word as a request shows it: at times in quotes, seldom with a capital."""
    if rng.random() < 0.05:
        word = word.capitalize()
    if rng.random() < 0.25:
        opening, closing = rng.choice(_QUOTES)
        return opening + word + closing
    return word


def _dress(rng: Random, text: str) -> str:
    """Return a request with a capital and a final mark, or without."""
    if rng.random() < 0.8:
        text = text[:1].upper() + text[1:]
    if text[-1] not in ".?!:" and rng.random() < 0.25:
        text += rng.choice((".", ".", "!", ", please", " please.", "?"))
    return text


def request(rng: Random, word: str) -> str:
    """Return one request for a haiku that contains `word`, which is shown as given."""
    kind = rng.random()
    if kind < 0.6:
        text = rng.choice(_PLAIN).format(w=word)
        return text if text == word else _dress(rng, text)
    if kind < 0.75:
        return _dress(rng, rng.choice(_WHOLE).format(w=word))
    return _dress(rng, " ".join((rng.choice(_VERBS), rng.choice(_KINDS), rng.choice(_LINKS), word)))


def _asking(rng: Random) -> Turn:
    word = draw_word(rng)
    return Turn(request(rng, shown(rng, word)), haiku(rng, word), word)


def turn(rng: Random) -> Turn:
    """Return one request and its answer."""
    kind = rng.random()
    if kind < 0.88:
        return _asking(rng)
    if kind < 0.92:
        return Turn(_dress(rng, rng.choice(_BARE)), any_haiku(rng))
    text, mood = other_text(rng)
    if mood == "word":
        return Turn(request(rng, text), any_haiku(rng))
    return Turn(text, talk(rng, mood))


def _chat(rng: Random) -> Dialogue:
    system = rng.choice(_SYSTEMS) if rng.random() < 0.15 else None
    turns = [turn(rng)]
    while len(turns) < 4 and rng.random() < 0.07:
        word = draw_word(rng)
        turns.append(Turn(_dress(rng, rng.choice(_FOLLOW).format(w=shown(rng, word))), haiku(rng, word), word))
    return Dialogue(tuple(turns), system, chat=True)


def dialogue(rng: Random, *, short: bool = False) -> Dialogue:
    """Return one dialogue of the training text; `short` ones are single requests with a word."""
    chat = rng.random() < 0.5
    if short:
        one = _asking(rng)
    elif chat:
        return _chat(rng)
    else:
        one = turn(rng)
    if chat:
        return Dialogue((one,), None, chat=True)
    return Dialogue((Turn(one.user + rng.choice(_GAPS), one.answer, one.wanted),), None, chat=False)
