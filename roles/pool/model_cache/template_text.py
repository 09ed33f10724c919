"""What a chat template can tell a model of, beside what is said: tools, and thoughts. Pure; renders nothing.

A template that knows tools reads the variable `tools`, as Ollama looks for its own `.Tools`; one of a model that thinks
has a switch for that, or writes the marks around thoughts. llama.cpp renders a template to find out; a pool only lists.

Strategy: a template may be hostile. It is read in time that grows with its length alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'?|\"(?:[^\"\\]|\\.)*\"?", re.DOTALL)
_TOOLS = re.compile(r"(?<![\w.])tools\b")
_THINKING = re.compile(r"\b(?:enable_thinking|thinking|reasoning_content|reasoning_effort)\b")
_MARKS = re.compile(r"</?(?:seed:)?think>|<thought>|\[THINK\]|<\|START_THINKING\|>")


def knows(template: str) -> tuple[str, ...]:
    """Return which of `tools` and `thinking` a template, in Jinja's language, knows."""
    code = [_TEXT.sub("''", piece) for piece in _code(template)]
    tools = any(map(_TOOLS.search, code))
    thinking = bool(_MARKS.search(template)) or any(map(_THINKING.search, code))
    return tuple(name for name, known in (("tools", tools), ("thinking", thinking)) if known)


def _code(template: str) -> Iterator[str]:
    """Yield what stands in the tags of a template: its statements and expressions."""
    for end, opened in (("%}", "{%"), ("}}", "{{")):
        for piece in template.split(opened)[1:]:
            yield piece.partition(end)[0]
