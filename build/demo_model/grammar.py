"""The haiku generator of the demo model: fills the templates of `shapes` so that every line scans (pure, seeded)."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from .shapes import FORMS, ROLES, TALK, Form
from .words import CLASSES, NUMBERS, SYLLABLES, THEMES, normalise

PATTERN: Final = (5, 7, 5)
_SLOT: Final = re.compile(r"<([A-Za-z.]+)>")
_THEMED: Final = {"S", "Sd", "Ss", "V", "Vs", "Ving"}
_ARTICLE: Final = re.compile(r"\b([Aa]) (?=(?:[aeio]|u(?!ni|se)|honest))")
_UNKNOWN_CLASSES: Final = frozenset({"n", "object", "thing", "d.object"})
_TRIES: Final = 60


def _classes() -> dict[str, dict[str, int]]:
    table = dict(CLASSES)
    mass = {"plant": ("plantm",), "sky": ("skym",), "object": ("food",), "abstract": ("season", "hour")}
    for theme in THEMES:
        table[f"d.{theme}"] = dict(table.get(theme, {})) if theme != "abstract" else {}
        for extra in mass.get(theme, ()):
            table[f"d.{theme}"].update(table[extra])
    table["being"] = {**table["animal"], **table["person"]}
    table["beings"] = {**table["animals"], **table["persons"]}
    table |= {"T": table["V.trans"], "Ts": table["Vs.trans"], "Ting": table["Ving.trans"]}
    return table


TABLE: Final = _classes()
BY_COUNT: Final[dict[str, dict[int, list[str]]]] = {
    name: {n: [w for w, k in words.items() if k == n] for n in sorted(set(words.values()))}
    for name, words in TABLE.items()
}


@dataclass(frozen=True)
class Template:
    """One line template: its literal texts, the classes of the slots between them, and its fixed syllables."""

    texts: tuple[str, ...]
    slots: tuple[str, ...]
    fixed: int


def _parse(source: str) -> Template:
    pieces = _SLOT.split(source)
    texts, slots = tuple(pieces[0::2]), tuple(pieces[1::2])
    fixed = 0
    for token in " ".join(texts).split():
        word = normalise(token)
        if word:
            fixed += SYLLABLES[word]
    return Template(texts, slots, fixed)


def _themed(slot: str, theme: str) -> str:
    if slot == "S":
        return theme
    if slot == "Sd":
        return f"d.{theme}"
    if slot == "Ss":
        return f"{theme}s"
    return f"{slot}.{theme}"


def _expand(source: str) -> list[Template]:
    slots = set(_SLOT.findall(source))
    if not slots & _THEMED:
        return [_parse(source)]
    out = []
    for theme in THEMES:
        if theme == "abstract" and slots & {"S", "Ss"}:
            continue
        text = _SLOT.sub(lambda m, t=theme: f"<{_themed(m[1], t) if m[1] in _THEMED else m[1]}>", source)  # type: ignore[misc]
        out.append(_parse(text))
    return out


TEMPLATES: Final[dict[str, tuple[tuple[Template, ...], ...]]] = {
    role: tuple(tuple(_expand(source)) for source in sources) for role, sources in {**ROLES, **TALK}.items()
}


@functools.cache
def solutions(
    template: Template, total: int, pinned: tuple[tuple[int, int], ...] = ()
) -> tuple[
    tuple[tuple[int, ...], ...],
    tuple[int, ...],
]:
    """Return the syllable counts of the slots that sum to `total`, and their running weights.

    `pinned` holds (slot, syllables) pairs of slots whose word is already chosen.
    """
    fixed = dict(pinned)
    options = [[fixed[i]] if i in fixed else list(BY_COUNT[slot]) for i, slot in enumerate(template.slots)]
    counts, weights, running = [], [], 0
    for combination in itertools.product(*options):
        if sum(combination) + template.fixed != total:
            continue
        weight = 1
        for i, (slot, n) in enumerate(zip(template.slots, combination, strict=True)):
            weight *= 1 if i in fixed else len(BY_COUNT[slot][n])
        running += weight
        counts.append(combination)
        weights.append(running)
    return tuple(counts), tuple(weights)


@functools.cache
def classes_of(word: str) -> frozenset[str]:
    """Return the classes that hold a word; an unknown word counts as the name of an object."""
    return frozenset(name for name, words in TABLE.items() if word in words) or _UNKNOWN_CLASSES


@functools.cache
def _candidates(role: str, total: int, classes: frozenset[str], count: int) -> tuple[tuple[Template, int], ...]:
    """Return (template, slot) pairs of a role that can hold a word of these classes and syllables."""
    return tuple(
        (template, i)
        for group in TEMPLATES[role]
        for template in group
        for i, slot in enumerate(template.slots)
        if slot in classes and solutions(template, total, ((i, count),))[0]
    )


@functools.cache
def _groups(role: str, total: int) -> tuple[tuple[Template, ...], ...]:
    """Return the template groups of a role that can make a line of `total` syllables without a number."""
    kept = (
        tuple(t for t in group if solutions(t, total)[0] and not {"num", "numany", "one"} & set(t.slots))
        for group in TEMPLATES[role]
    )
    return tuple(group for group in kept if group)


def _fill(rng: Random, template: Template, total: int, chosen: dict[int, tuple[str, int]]) -> list[str]:
    counts, running = solutions(template, total, tuple((i, n) for i, (_, n) in sorted(chosen.items())))
    (combination,) = rng.choices(counts, cum_weights=running)
    return [
        chosen[i][0] if i in chosen else rng.choice(BY_COUNT[slot][n])
        for i, (slot, n) in enumerate(zip(template.slots, combination, strict=True))
    ]


def _line(
    rng: Random,
    role: str,
    total: int,
    required: tuple[str, int] | None,
    used: set[str],
) -> tuple[str, bool] | None:
    """Return a line and whether the required word opens it, or None where the role cannot hold the word."""
    for _ in range(8):
        if required is None:
            template = rng.choice(rng.choice(_groups(role, total)))
            chosen: dict[int, tuple[str, int]] = {}
        else:
            found = _candidates(role, total, classes_of(required[0]), required[1])
            if not found:
                return None
            template, slot = rng.choice(found)
            chosen = {slot: required}
        words = _fill(rng, template, total, chosen)
        stems = [word.rstrip("s") for word in words]
        if len(set(stems)) != len(stems) or any(s in used for i, s in enumerate(stems) if i not in chosen):
            continue
        used.update(stems)
        text = "".join(t + w for t, w in itertools.zip_longest(template.texts, words, fillvalue=""))
        return text, not template.texts[0] and 0 in chosen
    return None


def capitalise(text: str) -> str:
    """Return a line with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def join(lines: Sequence[str], ends: Sequence[str]) -> str:
    """Return three lines as one haiku: sentence case, the right articles, one newline between the lines."""
    out, opening = [], True
    for line, end in zip(lines, ends, strict=True):
        fixed = _ARTICLE.sub(r"\1n ", line)
        out.append((capitalise(fixed) if opening else fixed) + end)
        opening = end in {".", "?", "!"}
    return "\n".join(out)


_WEIGHTS: Final = tuple(itertools.accumulate(weight for weight, _ in FORMS))
_FORMS: Final = tuple(form for _, form in FORMS)


def fill_form(rng: Random, form: Form) -> str:
    """Return one text of a given form (three roles with their final marks)."""
    while True:
        used: set[str] = set()
        lines = [_line(rng, role, total, None, used) for (role, _), total in zip(form, PATTERN, strict=True)]
        texts = [line[0] for line in lines if line is not None]
        if len(texts) == len(PATTERN):
            return join(texts, [end for _, end in form])


def haiku(rng: Random, required: Iterable[tuple[str, int]] = ()) -> str:
    """Return a 5-7-5 haiku that holds each required (word, syllables), each on a line of its own.

    A required word seldom opens a sentence, because there it would get a capital letter; number words may.
    """
    wanted = tuple(required)
    for attempt in range(_TRIES * 10):
        form: Form = rng.choices(_FORMS, cum_weights=_WEIGHTS)[0]
        places = dict(zip(rng.sample(range(3), len(wanted)), wanted, strict=True))
        used = {word.rstrip("s") for word, _ in wanted}
        lines, opening = [], True
        for i, (role, end) in enumerate(form):
            made = _line(rng, role, PATTERN[i], places.get(i), used)
            if made is None:
                break
            text, first = made
            if first and opening and places[i][0] not in NUMBERS and attempt < _TRIES and rng.random() > 0.1:
                break
            lines.append(text)
            opening = end in {".", "?", "!"}
        else:
            return join(lines, [end for _, end in form])
    message = f"no haiku holds {wanted}"
    raise ValueError(message)
