"""Model references and aliases: what a name means, and what to suggest when it means nothing. Pure.

A reference says exactly one file: `file:/absolute/path` on the pool's host, or
`hf:org/repo@revision::file=path` on the Hugging Face hub. Paths under `/builtin/` are the model files inside the
executable, the same on every host.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from llorch.errors import InvalidRequest, ModelNotFound

BUILTIN_PREFIX = "file:/builtin/"
HAIKU_REF = "file:/builtin/haiku.gguf"

BUILTIN_ALIASES: Mapping[str, str] = {
    "haiku": HAIKU_REF,
    "tinyllama": "hf:TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF@main::file=tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf",
    "qwen": "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF@main::file=qwen2.5-0.5b-instruct-q4_k_m.gguf",
    "qwen-fp16": "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF@main::file=qwen2.5-0.5b-instruct-fp16.gguf",
    "phi3": "hf:microsoft/Phi-3-mini-4k-instruct-gguf@main::file=Phi-3-mini-4k-instruct-q4.gguf",
    "llama3": "hf:QuantFactory/Meta-Llama-3-8B-Instruct-GGUF@main::file=Meta-Llama-3-8B-Instruct.Q4_K_M.gguf",
    "llama2": "hf:TheBloke/Llama-2-7B-GGUF@main::file=llama-2-7b.Q8_0.gguf",
    "mistral": "hf:TheBloke/Mistral-7B-Instruct-v0.2-GGUF@main::file=mistral-7b-instruct-v0.2.Q4_K_M.gguf",
}

_HF = re.compile(
    r"^hf:(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)@(?P<revision>[\w./-]{1,128})::file=(?P<path>[^\x00-\x1f\\]{1,512})$",
    re.ASCII,
)
_FILE = re.compile(r"^file:(?P<path>/[^\x00-\x1f]{1,1000})$")


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file on the pool's host; under `/builtin/`, one inside the executable."""

    path: str

    @property
    def builtin(self) -> str | None:
        """The name of the built-in file; None for a file of the host."""
        inside = self.path.removeprefix("/builtin/")
        return inside if inside != self.path and "/" not in inside else None

    def __str__(self) -> str:
        """Return the reference."""
        return f"file:{self.path}"


@dataclass(frozen=True, slots=True)
class HubRef:
    """A file of a repository on the hub."""

    repo: str
    revision: str
    path: str

    def __str__(self) -> str:
        """Return the reference."""
        return f"hf:{self.repo}@{self.revision}::file={self.path}"


def parse_ref(text: str) -> FileRef | HubRef:
    """Parse a resolved reference.

    Raises:
        InvalidRequest: It is not `file:/absolute/path` or `hf:org/repo@revision::file=path`, or its path leads out
            of where it starts.
    """
    if found := _FILE.fullmatch(text):
        if not _leads_out(found["path"]):
            return FileRef(found["path"])
    elif (found := _HF.fullmatch(text)) and not found["path"].startswith("/") and not _leads_out(*found.groups()):
        return HubRef(found["repo"], found["revision"], found["path"])
    problem = "expected file:/absolute/path or hf:org/repo@revision::file=path"
    raise InvalidRequest(
        f"the request is not valid: model_ref: {problem}",
        details={"fields": [{"field": "model_ref", "problem": problem}]},
    )


def resolve(name: str, aliases: Mapping[str, str]) -> str:
    """Return the reference that *name* (an alias or a reference) stands for.

    Args:
        name: What the user wrote.
        aliases: The user's aliases; they go before the built-in ones.

    Raises:
        ModelNotFound: No such alias; the message and `details["near"]` list near ones. Never another model instead.
        InvalidRequest: It looks like a reference and is not a whole one.
    """
    if name.startswith(("file:", "hf:")):
        return str(parse_ref(name))
    known = {**BUILTIN_ALIASES, **aliases}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower()[:64], list(known), n=3, cutoff=0.5)
    shown = "".join(c if c.isprintable() else "?" for c in name[:64])
    hint = f"did you mean {' or '.join(near)}?" if near else f"known names: {', '.join(sorted(known))}"
    raise ModelNotFound(f"no model is called {shown!r}; {hint}", details={"near": near})


def _leads_out(*paths: str) -> bool:
    return any(".." in path.split("/") for path in paths)
