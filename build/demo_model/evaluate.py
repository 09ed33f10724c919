"""Measures a haiku GGUF through llama.cpp (xllamacpp) and prints the figures of the model card as a table."""

from __future__ import annotations

import argparse
import json
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import gguf
import xllamacpp

from .dialogues import request, shown
from .replies import ASKED, invented
from .tokenizer import BOS, END, START, build
from .words import NUMBERS, VOCABULARY, normalise, scans

DEFAULT: Final = Path(__file__).resolve().parents[2] / "llorch" / "assets" / "haiku.gguf"
PLAIN: Final = (
    "Write a haiku that contains the word {w}", "Write a haiku about {w}",
    "Please write a haiku with the word '{w}' in it.", "haiku: {w}", 'Compose a short haiku using the word "{w}"',
)  # fmt: skip
UNSEEN: Final = (
    "What is the meaning of life?", "Recommend a film.", "1+1", "Tell me a story about two brothers and a dragon.",
    "import numpy as np\nprint(np.zeros(3))", "Wer bist du?", "Où est la gare ?", "ありがとう", "🚀🚀🚀",
    "qwertyuiop", " ",
    "The quick brown fox jumps over the lazy dog.", "SHOUTING IN CAPITALS", "Who won?", "{}", "a", "0", "\n\n",
    "Dear Sir or Madam, I write to you because my order has not come yet. Please look into it. Yours, A. Nobody.",
)  # fmt: skip
_ODD: Final = (
    "🌸", "—", "…", "  ", "\n", "\n\n", "\t", "é", "ß", "日本", "12345", "it's", "'", '"', "<|", "ŉ", "\u00a0",
)  # fmt: skip
_LIMIT: Final = 160


@dataclass(frozen=True)
class Sample:
    """One request to the model: what kind it is, in which way it is sent, the word it asks for and its text."""

    kind: str
    raw: bool
    word: str
    turns: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """The model's answer to a sample, and whether it ended it by itself."""

    sample: Sample
    text: str
    ended: bool


class Runner:
    """A llama.cpp server in this process, and the sampling settings of the measurement."""

    def __init__(self, path: Path, temperature: float, threads: int) -> None:
        """Load the model with four slots of the whole training context."""
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel, params.n_ctx = 4, 4 * 512
        params.cpuparams.n_threads = threads
        params.verbosity = -1
        self._server = xllamacpp.Server(params)
        self._temperature = temperature
        self.address: str = self._server.listening_address

    def ask(self, job: tuple[int, Sample]) -> Answer:
        """Send one sample with its seed and return the answer."""
        seed, sample = job
        body: dict[str, Any] = {"temperature": self._temperature, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": seed}
        body |= {"n_predict": _LIMIT, "max_tokens": _LIMIT}
        if sample.raw:
            choice = self._server.handle_completions({**body, "prompt": sample.turns[0]})["choices"][0]
            return Answer(sample, choice["text"], choice["finish_reason"] == "stop")
        messages: list[dict[str, str]] = []
        ended, text = True, ""
        for turn in sample.turns:
            messages.append({"role": "user", "content": turn})
            choice = self._server.handle_chat_completions({**body, "messages": messages})["choices"][0]
            text = choice["message"]["content"] or ""
            ended &= choice["finish_reason"] == "stop"
            messages.append({"role": "assistant", "content": text})
        return Answer(sample, text, ended)

    def tokenize(self, text: str) -> list[int]:
        """Return llama.cpp's token ids of a text (control tokens in it are parsed, no BOS)."""
        body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
        call = urllib.request.Request(f"{self.address}/tokenize", body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(call) as reply:  # noqa: S310
            ids: list[int] = json.load(reply)["tokens"]
            return ids


def _varied(rng: Random, word: str) -> str:
    """Return a request in any of the phrasings of the training text, but without a capital on the word."""
    while True:
        asked = shown(rng, word)
        if word in asked:
            return request(rng, asked)


def samples(rng: Random) -> list[Sample]:
    """Return the samples of the measurement, both as messages and as raw prompts."""
    found: list[Sample] = []

    def both(kind: str, word: str, text: str) -> None:
        found.append(Sample(kind, raw=False, word=word, turns=(text,)))
        found.append(Sample(kind, raw=True, word=word, turns=(text + rng.choice(("", "\n")),)))

    for word in NUMBERS:
        for plain in PLAIN:
            both("number", word, plain.format(w=word))
            both("number, varied", word, _varied(rng, word))
    for word in VOCABULARY:
        for plain in rng.sample(PLAIN, 2):
            both("vocabulary", word, plain.format(w=word))
        both("vocabulary, varied", word, _varied(rng, word))
        if rng.random() < 0.25:
            both("capital", word, rng.choice(PLAIN).format(w=word.capitalize()))
    for _ in range(150):
        first, word = rng.choice(tuple(VOCABULARY)), rng.choice((*NUMBERS, *VOCABULARY))
        turns = (PLAIN[1].format(w=first), f"write another one about {word}", f"And now with the word {first}")
        found.append(Sample("second turn", raw=False, word=word, turns=turns[:2]))
        found.append(Sample("third turn", raw=False, word=first, turns=turns))
    for _ in range(50):
        both("no word", "", "write me a haiku")
    for text in (*UNSEEN, *(t.format(n=7, k=12) for group in ASKED.values() for t in group)):
        both("other", "", text)
    for _ in range(100):
        both("unknown word", "", rng.choice(PLAIN).format(w=invented(rng)))
    return found


def follows(answer: Answer) -> bool:
    """Tell whether the asked word stands in the answer as a whole word."""
    return re.search(rf"(?<![\w-]){re.escape(answer.sample.word)}(?![\w-])", answer.text, re.IGNORECASE) is not None


def skeleton(text: str) -> str:
    """Return the shape of a haiku: every word of the vocabulary replaced by one mark."""
    words = re.findall(r"[\w'-]+|[^\w\s]|\n", text)
    return " ".join("*" if normalise(w) in VOCABULARY or normalise(w) in NUMBERS else w.lower() for w in words)


def agreement(path: Path, runner: Runner, rng: Random, count: int = 4000) -> tuple[int, int]:
    """Return on how many texts the `tokenizers` library and llama.cpp give the same ids, and the number of texts."""
    fields = gguf.GGUFReader(path).fields
    tokens: list[str] = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = build({token: i for i, token in enumerate(tokens)}, [(a, b) for a, b in merges])
    odd = [*_ODD, START, END, BOS]
    same = 0
    for _ in range(count):
        pieces = [rng.choice(odd) if rng.random() < 0.3 else request(rng, invented(rng)) for _ in range(3)]
        text = rng.choice(("", " ", "\n")).join((*pieces, "".join(map(chr, rng.choices(range(32, 0x3000), k=3)))))
        same += tokenizer.encode(text, add_special_tokens=False).ids == runner.tokenize(text)
    return same, count


def _share(answers: list[Answer], kind: str, *, raw: bool) -> str:
    chosen = [a for a in answers if a.sample.kind == kind and a.sample.raw == raw]
    if not chosen:
        return f"| {kind} | {'raw' if raw else 'messages'} | 0 | | | |"
    cells = [f"{100 * sum(a.ended for a in chosen) / len(chosen):.1f} %"]
    cells.append(f"{100 * sum(follows(a) for a in chosen) / len(chosen):.1f} %" if chosen[0].sample.word else "")
    cells.append(f"{100 * sum(scans(a.text) for a in chosen) / len(chosen):.1f} %")
    return f"| {kind} | {'raw' if raw else 'messages'} | {len(chosen)} | " + " | ".join(cells) + " |"


def main() -> None:
    """Measure a GGUF file: word following, scanning, ends, shapes and the agreement of the tokenizers."""
    parser = argparse.ArgumentParser(prog="demo_model.evaluate", description=main.__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="one is fastest for so small a model")
    parser.add_argument("--share", type=float, default=1.0, help="measure only this share of the samples")
    parser.add_argument("--misses", type=int, default=0, help="print so many answers that miss something")
    args = parser.parse_args()
    rng = Random(args.seed)
    runner = Runner(args.model, args.temperature, args.threads)
    jobs = samples(rng)
    if args.share < 1:
        jobs = rng.sample(jobs, round(len(jobs) * args.share))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(runner.ask, enumerate(jobs, args.seed)))
    print("| requests | sent as | samples | ended by EOS | holds the word | scans 5-7-5 |\n|---|---|---|---|---|---|")
    for kind in dict.fromkeys(job.kind for job in jobs):
        for raw in (False, True):
            if any(job.kind == kind and job.raw == raw for job in jobs):
                print(_share(answers, kind, raw=raw))
    fifty = [a.text for a in answers if a.sample.kind == "no word" and not a.sample.raw]
    print(f"\nfifty in a row: {len(set(fifty))} texts, {len(set(map(skeleton, fifty)))} shapes")
    same, count = agreement(args.model, runner, rng)
    print(f"tokenizers and llama.cpp agree on {same} of {count} texts")
    missed = [a for a in answers if a.sample.kind in {"number", "vocabulary"} and not (follows(a) and scans(a.text))]
    for answer in rng.sample(missed, min(args.misses, len(missed))):
        print(json.dumps([answer.sample.turns[-1], answer.text], ensure_ascii=False))


if __name__ == "__main__":
    main()
