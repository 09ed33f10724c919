"""Runs the user's own git on one repository: argument lists, never a shell; its failures are told in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from llorch.cli import git_facts as facts
from llorch.cli.git_facts import Branch, Commit, Losses, RepoStatus, Submodule
from llorch.errors import InvalidConfiguration, LlorchError
from llorch.program import foreign_environment

# What would have git work on another repository than the one that it is given.
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")


class GitFailed(LlorchError):
    """git could not do its part, or would not."""

    code = "GIT_FAILED"


class Refusal(GitFailed):
    """git was there, and said no."""


class Repository:
    """A working tree.

    Args:
        path: Its top folder.

    Raises:
        InvalidConfiguration: It is none, or a folder inside of one.
        GitFailed: There is no git.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise InvalidConfiguration(f"the repository {path} is not there; git clone it, or correct [pool] git_repo")
        try:
            top = self._run("rev-parse", "--show-toplevel")
        except Refusal as error:
            raise InvalidConfiguration(f"{path} cannot be used: {error.message}; correct [pool] git_repo") from None
        if Path(os.fsdecode(top).rstrip("\n")).resolve() != path.resolve():
            above = os.fsdecode(top).strip()
            raise InvalidConfiguration(f"{path} is only a folder of the repository {above}; name that one")

    def status(self) -> RepoStatus:
        """Return how the files stand to the last commit, and that to the branch it follows."""
        return facts.status_of(self._run(*facts.STATUS), str(self.path))

    def branches(self, *, remote: bool) -> list[Branch]:
        """Return the branches, with those of other repositories if wanted."""
        where = ["refs/heads", *(["refs/remotes"] if remote else [])]
        return facts.branches_of(self._run("for-each-ref", f"--format={facts.REF_FORMAT}", *where))

    def log(self, *, limit: int) -> list[Commit]:
        """Return the newest commits."""
        if not self.status().commit:
            return []
        return facts.commits_of(self._run("log", f"--max-count={limit}", f"--format={facts.LOG_FORMAT}"))

    def submodules(self) -> list[Submodule]:
        """Return the submodules, those inside of submodules included."""
        return facts.submodules_of(self._run("submodule", "status", "--recursive"))

    def update_submodules(self, *, force: bool = False) -> None:
        """Check the wanted commit of every submodule out; local changes stop that unless forced."""
        self._run("submodule", "update", "--init", "--recursive", *(["--force"] if force else []))

    def fetch(self) -> str:
        """Fetch what the present branch follows; return the commit that it has there.

        Raises:
            GitFailed: No branch is checked out, it follows none, or the other repository cannot be reached.
        """
        branch = self._followed()
        self._run("fetch", "--prune", self._run("config", f"branch.{branch}.remote").decode().strip())
        target = self._run("rev-parse", "--verify", "@{upstream}^{commit}", may_fail=True).decode().strip()
        if not target:
            raise GitFailed(f"the branch that {branch} follows is not there any more")
        return target

    def pull(self) -> list[Commit]:
        """Bring the present branch forward to the one it follows; return the commits that are new.

        Raises:
            GitFailed: As for `fetch`, or both have commits that the other has not, or changed files are in the way.
        """
        target, before = self.fetch(), self.status()
        if before.ahead and before.behind:
            raise GitFailed(
                f"{before.branch} and {before.upstream} have gone apart ({before.ahead} and {before.behind} commits): "
                "merge or rebase by hand, or drop yours with: llorch pool git sync"
            )
        new = self._commits(f"{before.commit}..{target}" if before.commit else target)
        self._run("merge", "--ff-only", "--quiet", target)
        return new

    def lost_by_sync(self, target: str) -> Losses:
        """Return what `sync` to that commit destroys."""
        status = self.status()
        others = facts.split(self._run("ls-files", "--others", "-z"), "\0")
        tree = facts.split(self._run("ls-tree", "-r", "-z", "--name-only", "--full-tree", target), "\0")
        return Losses(
            changes=status.changes,
            commits=self._commits(f"{target}..HEAD") if status.commit else [],
            files=facts.overwritten(others, tree),
        )

    def sync(self, target: str) -> None:
        """Make files, branch and submodules those of a commit."""
        self._run("reset", "--hard", "--quiet", target)
        self._run("submodule", "sync", "--recursive", "--quiet")
        self.update_submodules(force=True)

    def lost_by_clean(self, *, ignored: bool) -> Losses:
        """Return what `clean` destroys."""
        which = () if ignored else ("--exclude-standard",)
        return Losses(files=facts.removable(facts.split(self._run("ls-files", "--others", "-z", *which), "\0")))

    def clean(self, *, ignored: bool) -> None:
        """Remove files that are not tracked, and the folders that become empty."""
        self._run("clean", "-d", "--force", "--quiet", *(["-x"] if ignored else []))

    def _commits(self, span: str) -> list[Commit]:
        return facts.commits_of(self._run("log", f"--format={facts.LOG_FORMAT}", span))

    def _followed(self) -> str:
        status = self.status()
        if not status.branch:
            raise GitFailed(f"no branch is checked out in {self.path}: git -C {self.path} switch BRANCH")
        if not self._run("config", f"branch.{status.branch}.remote", may_fail=True):
            name = status.branch
            raise GitFailed(
                f"branch {name} follows no other: git -C {self.path} branch --set-upstream-to=origin/{name}"
            )
        return status.branch

    def _run(self, *arguments: str, may_fail: bool = False) -> bytes:
        """Return git's stdout; empty where it failed and may.

        Raises:
            GitFailed: It failed; the message is its own last line.
        """
        env = {name: value for name, value in foreign_environment().items() if name not in ELSEWHERE}
        env |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
        if not sys.stdin.isatty():
            env["GIT_TERMINAL_PROMPT"] = "0"
        argv = ["git", "-C", str(self.path), "--no-pager", *arguments]
        try:
            done = subprocess.run(argv, check=False, env=env, stdin=subprocess.DEVNULL, capture_output=True)
        except OSError as error:
            raise GitFailed(f"git cannot be run: {(error.strerror or str(error)).lower()}; install it") from None
        if done.returncode and not may_fail:
            raise Refusal(f"git {arguments[0]}: {_reason(done.stderr.decode('utf-8', 'replace'))}")
        return b"" if done.returncode else done.stdout


def _reason(stderr: str) -> str:
    """Return the line of git's complaint that says most: the first that it calls fatal or an error, else the last."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if line.startswith(("fatal: ", "error: ")):
            said = line.partition(": ")[2]
            files = [after for after in lines[number + 1 :] if not after.endswith(".") and after != "Aborting"]
            return f"{said} {', '.join(files)}" if said.endswith(":") else said
    return lines[-1] if lines else "it failed without a word"
