"""Model references and aliases: what a name means, and what to suggest when it means nothing. Pure.

A reference says exactly one file: `file:/absolute/path` on the pool's host, or
`hf:org/repo@revision::file=path` on the Hugging Face hub. Paths under `/builtin/` are the model files inside the
executable, the same on every host. What a person writes may leave out the revision, the file, or both; `llorch.hub`
then finds them. A model in several files is named by its first one: a set of parts by part one, a checkpoint by its
`config.json` (see `checkpoint_files`).

Or it says a model of a server that is not llorch's: `server:NAME/MODEL`, where NAME is what pools call that server in
their configuration, and MODEL what it calls the model itself.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping
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
_LOOSE = re.compile(
    r"^hf:(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]{1,128}))?(::file=(?P<path>[^\x00-\x1f\\]{1,512}))?$",
    re.ASCII,
)
_FILE = re.compile(r"^file:(?P<path>/[^\x00-\x1f]{1,1000})$")
_SERVER = re.compile(r"^server:(?P<server>[A-Za-z0-9][A-Za-z0-9._-]{0,63})/(?P<model>[^\x00-\x1f]{1,512})$", re.ASCII)
SCHEMES = ("file:", "hf:", "server:")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_PART = re.compile(r"^(?P<stem>.+-)(?P<number>\d{5})(?P<of>-of-)(?P<count>\d{5})(?P<suffix>\.gguf)$", re.IGNORECASE)
DEFAULT_REVISION = "main"
MAX_PARTS = 1000


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

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, so that the reference can never mean another file."""
        return _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        """Return the reference."""
        return f"hf:{self.repo}@{self.revision}::file={self.path}"


@dataclass(frozen=True, slots=True)
class ServerRef:
    """A model of a server that pools are told of in their configuration; pools that call it alike have the same."""

    server: str
    model: str

    def __str__(self) -> str:
        """Return the reference."""
        return f"server:{self.server}/{self.model}"


@dataclass(frozen=True, slots=True)
class RepoRef:
    """A repository on the hub of which the file is still to be chosen."""

    repo: str
    revision: str

    def __str__(self) -> str:
        """Return what a person writes."""
        return f"hf:{self.repo}" + (f"@{self.revision}" if self.revision != DEFAULT_REVISION else "")


def parse_ref(text: str) -> FileRef | HubRef | ServerRef:
    """Parse a resolved reference.

    Raises:
        InvalidRequest: It is not `file:/absolute/path`, `hf:org/repo@revision::file=path` or `server:NAME/MODEL`, or
            its path leads out of where it starts.
    """
    if found := _SERVER.fullmatch(text):
        return ServerRef(found["server"], found["model"])
    if found := _FILE.fullmatch(text):
        if not _leads_out(found["path"]):
            return FileRef(found["path"])
    elif (found := _HF.fullmatch(text)) and not found["path"].startswith("/") and not _leads_out(*found.groups()):
        return HubRef(found["repo"], found["revision"], found["path"])
    raise _wrong("expected file:/absolute/path, hf:org/repo@revision::file=path or server:NAME/MODEL")


def parse_name(text: str) -> FileRef | HubRef | ServerRef | RepoRef:
    """Parse what a person may write as a reference: the revision and the file may be missing.

    Raises:
        InvalidRequest: It is none of `file:/absolute/path`, `hf:org/repo[@revision][::file=path]` and
            `server:NAME/MODEL`.
    """
    if text.startswith(("file:", "server:")):
        return parse_ref(text)
    found = _LOOSE.fullmatch(text)
    if found is None or _leads_out(*(part for part in found.groupdict().values() if part)):
        raise _wrong("expected file:/absolute/path, hf:org/repo[@revision][::file=path] or server:NAME/MODEL")
    revision = found["revision"] or DEFAULT_REVISION
    if found["path"] is None:
        return RepoRef(found["repo"], revision)
    return HubRef(found["repo"], revision, found["path"]) if found["path"][0] != "/" else parse_ref(text)


def resolve(name: str, aliases: Mapping[str, str], *, served: Iterable[str] = ()) -> str:
    """Return the reference that *name* (an alias or a reference) stands for; it need not be pinned to a commit.

    Args:
        name: What the user wrote.
        aliases: The user's aliases; they go before the built-in ones, and those before what servers call their models.
        served: References of the models of servers.

    Raises:
        ModelNotFound: No such name; the message and `details["near"]` list near ones. Never another model instead.
        InvalidRequest: It begins like a reference and is none, or several servers have a model of that name.
    """
    if name.startswith(SCHEMES):
        return str(parse_name(name))
    known = {**BUILTIN_ALIASES, **aliases}
    if name in known:
        return known[name]
    refs = sorted(set(served))
    found = [ref for ref in refs if own_name(ref) == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidRequest(
            f"several servers have a model of that name; say which: {', '.join(found)}", details={"files": found}
        )
    known |= {own_name(ref): ref for ref in refs}
    near = difflib.get_close_matches(name.lower()[:64], list(known), n=3, cutoff=0.5)
    shown = "".join(c if c.isprintable() else "?" for c in name[:64])
    hint = f"did you mean {' or '.join(near)}?" if near else f"known names: {', '.join(sorted(known))}"
    raise ModelNotFound(f"no model is called {shown!r}; {hint}", details={"near": near})


def is_pinned(ref: str) -> bool:
    """Tell whether a resolved reference can only ever mean one file: on a host, or of one commit."""
    parsed = parse_name(ref)
    return isinstance(parsed, FileRef | ServerRef) or (isinstance(parsed, HubRef) and parsed.pinned)


def is_newest(ref: str) -> bool:
    """Tell whether a reference leaves the commit to when it is looked up: whether its revision is `main`."""
    parsed = parse_name(ref)
    return isinstance(parsed, HubRef | RepoRef) and parsed.revision == DEFAULT_REVISION


def own_name(ref: str) -> str:
    """Return what a server itself calls a model; empty for a reference that is no server's."""
    found = _SERVER.fullmatch(ref)
    return found["model"] if found else ""


def server_name(ref: str) -> str:
    """Return the name of the server that has a model; empty for a reference that is no server's."""
    found = _SERVER.fullmatch(ref)
    return found["server"] if found else ""


def stands_for(name: str, ref: str) -> bool:
    """Tell whether *ref*, which names a commit, is what *name*, which may not, can be pinned to."""
    wanted, found = parse_name(name), parse_name(ref)
    if str(wanted) == str(found):
        return True
    if not isinstance(found, HubRef) or isinstance(wanted, FileRef | ServerRef) or wanted.repo != found.repo:
        return False
    if _COMMIT.fullmatch(wanted.revision):
        return isinstance(wanted, RepoRef) and wanted.revision == found.revision
    return wanted.revision == DEFAULT_REVISION and (isinstance(wanted, RepoRef) or wanted.path == found.path)


def may_stand_for(name: str, ref: str) -> bool:
    """Tell whether *name* can be pinned to *ref*: whether that is the same file, or one commit of it.

    Only the hub knows what a tag, a branch or a short commit is pinned to, so this may tell of more than `stands_for`.
    """
    wanted, found = parse_name(name), parse_name(ref)
    if not isinstance(found, HubRef) or isinstance(wanted, FileRef | ServerRef) or wanted.repo != found.repo:
        return wanted == found
    fixed = _COMMIT.fullmatch(wanted.revision) is not None
    same_file = isinstance(wanted, RepoRef) or wanted.path == found.path
    return same_file and (wanted.revision == found.revision or not fixed)


def aliases_of(ref: str, aliases: Mapping[str, str]) -> list[str]:
    """Return the names by which a reference is known, the user's *aliases* before the built-in ones."""
    known = {**BUILTIN_ALIASES, **aliases}
    return sorted(alias for alias, target in known.items() if stands_for(target, ref))


def model_id(ref: str) -> str:
    """Return the id of a reference in addresses: the same on every host, and of 16 hexadecimal digits."""
    return hashlib.sha256(ref.encode()).hexdigest()[:16]


def is_gguf(path: str) -> bool:
    """Tell whether a file is GGUF by its name, in which case does not matter."""
    return path.lower().endswith(".gguf")


def parts(path: str) -> list[str]:
    """Return the files that a model is made of, in order: *path* alone, or all parts of the set it belongs to.

    Source of the naming: llama.cpp, `llama_split_path` (`<stem>-00001-of-00003.gguf`).
    """
    found = _PART.fullmatch(path)
    if found is None or not 0 < int(found["number"]) <= int(found["count"]) <= MAX_PARTS:
        return [path]
    stem, of, count, suffix = found.group("stem", "of", "count", "suffix")
    return [f"{stem}{number:05}{of}{count}{suffix}" for number in range(1, int(count) + 1)]


def _wrong(problem: str) -> InvalidRequest:
    return InvalidRequest(
        f"the request is not valid: model_ref: {problem}",
        details={"fields": [{"field": "model_ref", "problem": problem}]},
    )


def _leads_out(*paths: str) -> bool:
    return any(".." in path.split("/") for path in paths)
