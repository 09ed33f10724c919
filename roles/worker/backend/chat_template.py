"""A model's chat template: messages to one text. Renders in a sandbox; knows no tokens' numbers.

A template comes from whoever made the model. It runs as `transformers` runs it: in Jinja's sandbox, with the same few
functions. Source: https://github.com/huggingface/transformers, `utils/chat_template_utils.py`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llorch.wire.codec import UNREADABLE, FieldProblem, invalid

CONFIG = "tokenizer_config.json"
FILE = "chat_template.jinja"
NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")


class _Named(msgspec.Struct, frozen=True):
    name: str
    template: str


class _Token(msgspec.Struct, frozen=True):
    content: str


class _Config(msgspec.Struct, frozen=True):
    chat_template: str | list[_Named] | None = None
    bos_token: str | _Token | None = None
    eos_token: str | _Token | None = None
    unk_token: str | _Token | None = None
    pad_token: str | _Token | None = None


class ChatTemplate:
    """The template of one model.

    Args:
        source: Empty where the model has none.
        names: What it calls the special tokens, such as `bos_token`.
    """

    def __init__(self, source: str, names: Mapping[str, str]) -> None:
        self._source = source
        self._names = names
        self._environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], autoescape=False
        )
        self._environment.filters["tojson"] = _to_json
        self._environment.globals["raise_exception"] = _refuse
        self._environment.globals["strftime_now"] = _now

    def render(self, messages: Sequence[Mapping[str, object]]) -> str:
        """Return the text of a conversation, up to where the answer begins.

        Raises:
            InvalidRequest: The model has no template, or it refuses these messages.
        """
        if not self._source:
            raise invalid([FieldProblem("messages", "the model has no chat template; give a prompt")])
        try:
            template = self._environment.from_string(self._source)
            text: str = template.render(
                messages=messages, tools=None, documents=None, add_generation_prompt=True, **self._names
            )
            return text
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError):
            raise invalid([FieldProblem("messages", "the model's chat template does not accept them")]) from None


def template_of(folder: Path) -> ChatTemplate:
    """Return the template of a checkpoint."""
    config = _config(folder)
    return ChatTemplate(_source(folder, config), {name: _content(getattr(config, name)) for name in NAMES})


def _config(folder: Path) -> _Config:
    try:
        return msgspec.json.decode((folder / CONFIG).read_bytes(), type=_Config)
    except (OSError, *UNREADABLE):
        return _Config()


def _source(folder: Path, config: _Config) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (folder / FILE).read_text(encoding="utf-8")
    found = config.chat_template
    if isinstance(found, list):
        return next((named.template for named in found if named.name == "default"), "")
    return found or ""


def _content(token: str | _Token | None) -> str:
    return token.content if isinstance(token, _Token) else token or ""


def _refuse(message: str) -> str:
    raise TemplateError(message)


def _now(form: str) -> str:
    return dt.datetime.now().strftime(form)  # noqa: DTZ005 - a template asks for the local day


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
