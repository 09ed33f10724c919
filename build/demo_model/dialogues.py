"""The dialogues the demo model learns from: requests, follow-ups, small talk and their answers (pure, seeded)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from .grammar import haiku
from .replies import EMOJI, FACES, reply, small_talk
from .words import CLASSES, LEMMAS, NUMBERS, SYLLABLES, VOCABULARY

_VERBS: Final = (
    "write", "compose", "create", "make", "give me", "write me", "craft", "draft", "produce", "generate", "send me",
    "tell me", "share", "make me", "show me", "i want", "i need", "i would like", "can you write", "could you write",
)  # fmt: skip
_KINDS: Final = (
    "a haiku", "a haiku", "a haiku", "a haiku", "a short haiku", "a haiku poem", "a poem", "one haiku", "a new haiku",
    "a nice haiku", "your best haiku", "a little haiku", "a traditional haiku", "a funny haiku", "a sad haiku",
    "a single haiku", "haiku", "a beautiful haiku", "a 5-7-5 poem",
)  # fmt: skip
_LINKS: Final = (
    "about", "about", "on", "that contains the word", "that contains the word", "containing the word",
    "with the word", "using the word", "that mentions", "containing", "including", "featuring", "that uses the word",
    "which contains the word", "about the word", "with", "that includes the word", "that has the word", "inspired by",
    "for", "around the word", "about the", "about my",
)  # fmt: skip
_WHOLE: Final = (
    "haiku: {w}", "haiku about {w}", "haiku {w}", "{w} haiku", "{w}", "topic: {w}", "5-7-5 about {w}", "word: {w}",
    "use the word {w} in a haiku", "sing about {w}", "one haiku on {w}, please", "haiku with the word {w}",
    "write a haiku with the word {w} in it", "please write a haiku with the word {w} in it", "a haiku about {w}",
    "write a haiku. it must contain the word {w}.", "the word is {w}. write a haiku.", "let {w} be in your haiku",
    "write a haiku (word: {w})", "haiku, {w}", "tell me about {w} in a haiku", "put the word {w} into a haiku",
    "write a haiku that contains the word {w}", "write a haiku that contains the word {w}", "keyword: {w}\nhaiku:",
    "my favourite word is {w}; write a haiku with it", "can i have a haiku about {w}?",
    "write a poem in which {w} appears", "describe {w} in three lines", "compose a short haiku using the word {w}",
    "write about {w}", "poem about {w}",
)  # fmt: skip
_BARE: Final = (
    "write me a haiku", "write a haiku", "haiku", "haiku please", "a haiku, please", "give me a haiku", "one haiku",
    "compose a haiku", "can you write a haiku?", "i want a poem", "surprise me with a haiku", "any haiku will do",
    "write a poem", "please write a haiku", "recite a haiku for me", "let me hear a haiku", "do you know a haiku?",
)  # fmt: skip
_FOLLOW: Final = (
    "write another one about {w}", "another one about {w}", "now one about {w}", "and now {w}",
    "now with the word {w}", "one more, with the word {w}", "and about {w}?", "next: {w}", "again, but about {w}",
    "what about {w}?", "more: {w}", "nice. now write one that contains the word {w}",
    "thanks! another haiku about {w}, please", "the same with {w}",
)  # fmt: skip
_DRILLS: Final = ("{w}", "The {w}", "A {w} and a {w}", "No {w}, no {w}.", "In the\n{w},\n{w}.")
_MORE: Final = ("another one", "one more", "again", "more, please", "write another haiku", "and one more haiku?")
_BEFORE: Final = (
    "Please ", "please ", "Hi! ", "Hello, ", "Task {n}: ", "{n}. ", "- ", "Job {n}: ", "Q: ", "OK, ", "#{n} ",
)  # fmt: skip
_AFTER: Final = (
    " Answer with the haiku only.", " Thank you.", " Thanks!", " Keep it short.", " Three lines, please.",
    " Use the 5-7-5 form.", " Return only the haiku.", " Do not explain.", " No title.", " It should be calm.",
)  # fmt: skip
_SYSTEMS: Final = (
    "You are a helpful assistant.", "You are a poet.", "You write haiku.", "Answer in haiku.", "Be brief.",
    "You are a helpful assistant. Answer with a haiku.", "Follow the user's instructions.",
    "You are haiku, a tiny model.", "Always answer in three lines.",
    "You are a friendly assistant who likes rain and tea.", "Speak softly.",
)  # fmt: skip
_QUOTES: Final = (
    ("'", "'"), ('"', '"'), ('"', '"'), ("\u201c", "\u201d"), ("\u2018", "\u2019"),
    ("«", "»"), ("*", "*"), ("`", "`"), ("**", "**"),
)  # fmt: skip
_ONSETS: Final = (
    "b", "bl", "c", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kl", "l", "m", "n", "p", "pl", "qu", "r",
    "s", "sh", "sk", "sp", "st", "t", "tr", "v", "w", "y", "z",
)  # fmt: skip
_VOWELS: Final = ("a", "e", "i", "o", "u", "ai", "ee", "oo")
_CODAS: Final = ("", "", "", "n", "r", "l", "m", "x", "sk", "nd", "ck", "t", "ng")
_WORDS: Final = tuple(VOCABULARY)
_LEMMAS: Final = tuple(LEMMAS)
_SIMPLE: Final = tuple(word for word, count in LEMMAS.items() if count <= 2)
_ADJ: Final = tuple(CLASSES["adj"])
_NOUN: Final = tuple(CLASSES["n"])


@dataclass(frozen=True)
class Turn:
    """One request, its answer, and the words that the answer was asked to hold."""

    user: str
    answer: str
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialogue:
    """A chat (one turn or more), or a raw completion (`chat` false, exactly one turn)."""

    turns: tuple[Turn, ...]
    system: str | None
    chat: bool


def invented(rng: Random) -> tuple[str, int]:
    """Return a word outside the vocabulary and its syllables: made of syllables, or of two known words."""
    if rng.random() < 0.35:
        first, second = rng.choice(_SIMPLE), rng.choice(_SIMPLE)
        if first + second not in SYLLABLES:
            return first + second, SYLLABLES[first] + SYLLABLES[second]
    count = rng.choice((1, 2, 2, 2, 3, 3, 4))
    word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(count)) + rng.choice(_CODAS)
    return word, count


def draw_word(rng: Random) -> tuple[str, int]:
    """Return a word to ask for and its syllables: a number, a word of the vocabulary or an invented one."""
    kind = rng.random()
    if kind < 0.2:
        word = rng.choice(NUMBERS)
    elif kind < 0.62:
        word = rng.choice(_LEMMAS)
    elif kind < 0.93:
        word = rng.choice(_WORDS)
    else:
        return invented(rng)
    return word, SYLLABLES[word]


def _dress(rng: Random, text: str) -> str:
    """Return a request with a capital, a final stop, a word before it or a sentence after it, or none of them."""
    kind = rng.random()
    if kind < 0.62:
        text = text[:1].upper() + text[1:]
    elif kind < 0.65:
        text = text.upper()
    if rng.random() < 0.12:
        text = rng.choice(_BEFORE).format(n=rng.randrange(1000)) + text
    if text[-1] not in ".?!:":
        text += rng.choice(("", "", "", ".", ".", "!", "?", "..."))
    if rng.random() < 0.1 and text[-1] != ":":
        text += ("." if text[-1] not in ".?!" else "") + rng.choice(_AFTER)
    return text


def _shown(rng: Random, word: str) -> str:
    """Return a word as a request shows it: in quotes at times, or with a capital."""
    kind = rng.random()
    if kind < 0.14:
        word = word.capitalize()
    elif kind < 0.17:
        word = word.upper()
    if rng.random() < 0.3:
        opening, closing = rng.choice(_QUOTES)
        return opening + word + closing
    return word


def phrase(rng: Random, shown: str) -> str:
    """Return a request for a haiku with a word, the word being shown as given."""
    if rng.random() < 0.5:
        return rng.choice(_WHOLE).format(w=shown)
    return " ".join((rng.choice(_VERBS), rng.choice(_KINDS), rng.choice(_LINKS))) + f" {shown}"


def request(rng: Random, word: str) -> str:
    """Return one dressed request for a haiku that contains `word`."""
    return _dress(rng, phrase(rng, _shown(rng, word)))


def _long_text(rng: Random) -> str:
    words = [rng.choice(_WORDS) if rng.random() < 0.6 else invented(rng)[0] for _ in range(rng.randrange(12, 90))]
    for i in range(7, len(words), rng.randrange(6, 12)):
        words[i] += rng.choice((".", ",", ";", ".\n"))
    return " ".join(words)


def _haiku_turn(rng: Random, *, follow: bool) -> Turn:
    kind = rng.random()
    if kind < 0.1:
        return Turn(_dress(rng, rng.choice(_MORE if follow else _BARE)), haiku(rng))
    if kind < 0.16:
        first, second = (rng.choice(_LEMMAS), rng.choice(_LEMMAS)) if rng.random() < 0.5 else ("", "")
        joint = " and "
        if first == second:
            first, second, joint = rng.choice(_ADJ), rng.choice(_NOUN), " "
        if SYLLABLES[first] < 5 and SYLLABLES[second] < 5:
            pair = [(first, SYLLABLES[first]), (second, SYLLABLES[second])]
            return Turn(_dress(rng, phrase(rng, first + joint + second)), haiku(rng, pair), (first, second))
    if kind < 0.18:
        number = rng.randrange(60)
        word = NUMBERS[number]
        return Turn(request(rng, str(number)), haiku(rng, [(word, SYLLABLES[word])]), (word,))
    if kind < 0.2:
        sign, topic = rng.choice(EMOJI)
        asked = rng.choice(("haiku {}", "{}", "Write a haiku about {}", "{}?", "a {} haiku")).format(sign)
        return Turn(asked, haiku(rng, [(topic, SYLLABLES[topic])]) + " " + sign, (topic, sign))
    word, count = draw_word(rng)
    text = haiku(rng, [(word, count)])
    if follow and rng.random() < 0.7:
        return Turn(_dress(rng, rng.choice(_FOLLOW).format(w=_shown(rng, word))), text, (word,))
    asked = request(rng, word)
    if rng.random() < 0.03:
        asked = f"{_long_text(rng)}\n{asked}"
    if rng.random() < 0.02:
        sign = rng.choice(FACES)
        return Turn(f"{asked} {sign}", f"{text} {sign}", (word, sign))
    return Turn(asked, text, (word,))


def _other_turn(rng: Random) -> Turn:
    if rng.random() < 0.25:
        return Turn(_long_text(rng), reply(rng, "text"))
    asked, answer = small_talk(rng)
    return Turn(_dress(rng, asked) if rng.random() < 0.5 else asked, answer)


def drill(rng: Random) -> Dialogue:
    """Return a first exercise: a request whose answer is little more than the asked word."""
    word, _ = draw_word(rng)
    answer = rng.choice(_DRILLS).format(w=word)
    return Dialogue(
        (Turn(request(rng, word) + rng.choice(("", "\n")), answer, (word,)),), None, chat=rng.random() < 0.5
    )


def dialogue(rng: Random, *, short: bool = False) -> Dialogue:
    """Return one dialogue of the training text; `short` ones have one turn and no system message."""
    if rng.random() < 0.4:
        turn = _other_turn(rng) if rng.random() < 0.1 else _haiku_turn(rng, follow=False)
        gap = rng.choice(("", "", "\n", "\n", "\n\n", " ", "\nHaiku:\n"))
        lead = rng.choice(("", "", "", "", "", "", "", "", " ", "\n"))
        return Dialogue((Turn(lead + turn.user + gap, turn.answer, turn.wanted),), None, chat=False)
    turns = tuple(
        _other_turn(rng) if rng.random() < 0.14 else _haiku_turn(rng, follow=i > 0)
        for i in range(1 if short else rng.choice((1, 1, 1, 2, 3, 4)))
    )
    return Dialogue(turns, rng.choice(_SYSTEMS) if rng.random() < 0.3 and not short else None, chat=True)
