"""Real git repositories: a bare one that is pushed to, somebody who pushes, and clones of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

# Whatever the user of this machine has configured; and submodules may come from folders.
ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "protocol.file.allow",
    "GIT_CONFIG_VALUE_0": "always",
}


def git(folder: Path, *arguments: str) -> str:
    """Run git; return what it says."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        check=True,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def commit(folder: Path, files: dict[str, str], subject: str) -> str:
    """Write files and commit them; return the commit."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        git(folder, "add", "--", name)
    git(folder, "commit", "--quiet", "--message", subject)
    return git(folder, "rev-parse", "HEAD")


class Upstream:
    """A bare repository with one commit on main, and the working tree of who pushes to it."""

    def __init__(self, folder: Path, name: str = "upstream") -> None:
        self.bare = folder / f"{name}.git"
        self.author = folder / f"{name}-author"
        folder.mkdir(parents=True, exist_ok=True)
        git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        git(folder, "clone", "--quiet", str(self.bare), str(self.author))
        git(self.author, "switch", "--quiet", "--create", "main")
        self.push({"readme": "first\n"}, "Begin")

    def push(self, files: dict[str, str], subject: str) -> str:
        """Commit files and push them; return the commit."""
        made = commit(self.author, files, subject)
        git(self.author, "push", "--quiet", "--set-upstream", "origin", "main")
        return made

    def add_submodule(self, other: Upstream, path: str) -> None:
        """Have the other repository as a submodule."""
        git(self.author, "submodule", "--quiet", "add", str(other.bare), path)
        self.push({}, f"Add {path}")

    def clone(self, to: Path) -> Path:
        """Clone it, without submodules."""
        git(to.parent, "clone", "--quiet", str(self.bare), str(to))
        return to
