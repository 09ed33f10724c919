"""What the demo model says to anything that is no request for a haiku: small talk, answered in 5-7-5 all the same."""

from __future__ import annotations

from random import Random
from typing import Final

from .grammar import fill_form
from .shapes import Form

EMOJI: Final = (
    ("🌸", "blossom"), ("🌙", "moon"), ("🐸", "frog"), ("❄️", "snow"), ("🍂", "leaf"), ("🐱", "cat"), ("🌊", "wave"),
    ("⭐", "star"), ("☕", "coffee"), ("🤖", "robot"), ("🦊", "fox"), ("🐢", "turtle"), ("🌻", "sunflower"),
    ("🍎", "apple"), ("🦋", "butterfly"), ("🐝", "bee"), ("🌈", "rainbow"), ("🐧", "penguin"), ("🍄", "mushroom"),
    ("🏮", "lantern"),
)  # fmt: skip
FACES: Final = ("😀", "🙂", "😂", "🎉", "👍", "🥳", "😢", "🙏", "💡", "🔥")
ASKED: Final[dict[str, tuple[str, ...]]] = {
    "greet": ("hello", "hi", "hey there", "good morning", "good evening", "hello world", "hi, how are you?", "ping",
              "test"),
    "who": ("who are you?", "what are you?", "what is your name?", "are you a robot?", "tell me about yourself",
            "which model are you?", "what can you do?", "help"),
    "sums": ("what is {n}+{k}?", "{n} + {k} =", "what is {n} times {k}?", "calculate {n}*{k}", "how much is {n} - {k}?",
             "solve x + {n} = {k}", "{n}", "{n} {k} {n}"),
    "thanks": ("thanks", "thank you", "thank you very much!", "great job", "that was nice", "i like it", "ok", "lol"),
    "code": ("def f(x):\n    return x + {n}", "SELECT * FROM t WHERE id = {n};", "for (int i = 0; i < {n}; i++) {{ }}",
             "<html><body>{n}</body></html>", "write a python function", "print('hello')", "fix this bug: x = {n} / 0",
             '{{"id": {n}, "name": "x"}}', "$ ls -la /tmp", "git commit -m 'fix'"),
    "ask": ("what is the capital of France?", "why is the sky blue?", "what time is it?", "tell me a joke",
            "is it raining?", "how do I bake bread?", "what is love?", "explain gravity", "translate this into German",
            "summarize this text", "write an email to my boss", "when was the moon landing?", "list three colours",
            "what should I eat?"),
    "strange": ("bonjour, comment ça va ?", "wie geht es dir?", "¿qué tal?", "привет, как дела?", "こんにちは",
                "你好吗", "مرحبا", "안녕하세요", "asdf jkl qwerty", "zzzzz", "...", "?", "x", "ça marche à l'été",
                "größe über straße", "lorem ipsum dolor sit amet", "aaaaaaaaaaaa", "!!!", "dzień dobry"),
    "bye": ("bye", "goodbye", "good night", "see you", "quit", "stop"),
    "feel": ("i am sad", "i am tired", "i feel great today", "i am hungry", "i love you", "i am bored"),
}  # fmt: skip


def reply(rng: Random, mood: str) -> str:
    """Return a 5-7-5 answer to something that is no request for a haiku."""
    end = rng.choice((".", ".", ".", ":", "…"))
    form: Form = (("talk." + mood, end), ("talk.middle", rng.choice((",", ";", "."))), ("talk.ending", "."))
    return fill_form(rng, form).replace("?.", "?")


def small_talk(rng: Random) -> tuple[str, str]:
    """Return something that is no request for a haiku, and the answer to it."""
    if rng.random() < 0.1:
        sign = rng.choice(FACES)
        return rng.choice((sign, sign * 3, f"hello {sign}", f"{sign}?")), f"{reply(rng, 'greet')} {sign}"
    mood = rng.choice(tuple(ASKED))
    asked = rng.choice(ASKED[mood]).format(n=rng.randrange(1, 200), k=rng.randrange(1, 60))
    return asked, reply(rng, mood)
