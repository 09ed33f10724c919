"""From the flags of `jobs submit` to a request. Reads stdin or a file where a flag says so; sends nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import msgspec

from llorch.config import expanded
from llorch.errors import InvalidRequest
from llorch.wire import codec
from llorch.wire.tasks import SubmitTask


class WrongFlags(ValueError):
    """Flags that make no request; the message is one line that names them."""


def task(given: Mapping[str, object]) -> SubmitTask:
    """Build the request.

    Args:
        given: Flags by the request's field names; None and empty lists were not given. `prompt` may be `-` for
            stdin; `messages` is a file's name, or `-`.

    Raises:
        WrongFlags: They make no request.
    """
    fields = {name: value for name, value in given.items() if value not in (None, [])}
    if ("prompt" in fields) == ("messages" in fields):
        raise WrongFlags("give exactly one of --prompt and --messages")
    if fields.get("prompt") == "-":
        fields["prompt"] = _text("-", "--prompt")
    if "messages" in fields:
        fields["messages"] = _json(_text(str(fields["messages"]), "--messages"))
    try:
        return codec.decode(codec.encode(fields), SubmitTask)
    except UnicodeEncodeError:
        raise WrongFlags("a flag's value is not UTF-8") from None
    except InvalidRequest as error:
        raise WrongFlags(_by_flag(error)) from None


def _text(name: str, flag: str) -> str:
    try:
        return (sys.stdin.buffer.read() if name == "-" else expanded(name).read_bytes()).decode()
    except OSError as error:
        raise WrongFlags(f"{flag}: {name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise WrongFlags(f"{flag}: {name} is not UTF-8 (byte {error.start})") from None


def _json(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise WrongFlags(f"--messages: not JSON: {error}") from None


def _by_flag(error: InvalidRequest) -> str:
    problems = (error.details or {}).get("fields")
    if not isinstance(problems, list):
        return error.message
    named = ((str(p["field"]), str(p["problem"])) for p in problems)
    return "; ".join(f"--{field.replace('_', '-')}: {problem}" for field, problem in named)
