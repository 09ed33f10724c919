"""Texts that are no request for a haiku about a known word, and what kind each is (pure, seeded)."""

from __future__ import annotations

from random import Random
from typing import Final

from .words import VOCABULARY

ASKED: Final[dict[str, tuple[str, ...]]] = {
    "greet": ("hello", "hi", "hey there", "good morning", "good evening", "hello world", "hi, how are you?", "ping",
              "test", "😀", "👍", "🎉"),
    "who": ("who are you?", "what are you?", "what is your name?", "are you a robot?", "tell me about yourself",
            "which model are you?", "what can you do?", "help"),
    "sums": ("what is {n}+{k}?", "{n} + {k} =", "what is {n} times {k}?", "how much is {n} - {k}?",
             "solve x + {n} = {k}", "{n}", "{n} {k} {n}"),
    "thanks": ("thanks", "thank you", "thank you very much!", "great job", "that was nice", "i like it", "ok", "lol"),
    "code": ("def f(x):\n    return x + {n}", "SELECT * FROM t WHERE id = {n};", "for (int i = 0; i < {n}; i++) {{ }}",
             "<html><body>{n}</body></html>", "write a python function", "print('hello')", "fix this bug: x = {n} / 0",
             '{{"id": {n}, "name": "x"}}', "$ ls -la /tmp", "git commit -m 'fix'"),
    "ask": ("what is the capital of France?", "why is the sky blue?", "what time is it?", "tell me a joke",
            "is it raining?", "how do I bake bread?", "what is love?", "explain gravity", "translate this into German",
            "summarize this text", "write an email to my boss", "when was the moon landing?", "list three colours",
            "what should I eat?"),
    "odd": ("bonjour, comment ça va ?", "wie geht es dir?", "¿qué tal?", "привет, как дела?", "こんにちは", "你好吗",
            "مرحبا", "안녕하세요", "asdf jkl qwerty", "zzzzz", "...", "?", "x", "größe über straße",
            "lorem ipsum dolor sit amet", "aaaaaaaaaaaa", "!!!", "dzień dobry"),
    "bye": ("bye", "goodbye", "good night", "see you", "quit", "stop"),
    "feel": ("i am sad", "i am tired", "i feel great today", "i am hungry", "i love you", "i am bored"),
}  # fmt: skip
_ONSETS: Final = tuple("b bl c ch d dr f fl g gr h j k l m n p pl qu r s sh sk sp st t tr v w y z".split())
_VOWELS: Final = tuple("a e i o u ai ee oo".split())
_CODAS: Final = ("", "", "n", "r", "l", "m", "x", "sk", "nd", "ck", "t", "ng")
_WORDS: Final = tuple(VOCABULARY)


def invented(rng: Random) -> str:
    """Return a word outside the vocabulary."""
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.randrange(1, 4))) + rng.choice(_CODAS)


def _long_text(rng: Random) -> str:
    count = rng.randrange(12, 30) if rng.random() < 0.9 else rng.randrange(30, 130)
    words = [rng.choice(_WORDS) if rng.random() < 0.6 else invented(rng) for _ in range(count)]
    for i in range(7, len(words), rng.randrange(6, 12)):
        words[i] += rng.choice((".", ",", ";", ".\n"))
    return " ".join(words)


def other_text(rng: Random) -> tuple[str, str]:
    """Return a text and its kind: one of ASKED, "text" for a long one, "word" for a word that is not known."""
    kind = rng.random()
    if kind < 0.35:
        return " ".join(invented(rng) for _ in range(rng.choice((1, 1, 2)))), "word"
    if kind < 0.5:
        return _long_text(rng), "text"
    if kind < 0.6:
        return "".join(map(chr, rng.choices(range(0x20, 0x3000), k=rng.randrange(1, 12)))), "odd"
    mood = rng.choice(tuple(ASKED))
    asked = rng.choice(ASKED[mood]).format(n=rng.randrange(1, 200), k=rng.randrange(1, 60))
    if rng.random() < 0.5:
        asked = asked[:1].upper() + asked[1:]
    return asked, mood
