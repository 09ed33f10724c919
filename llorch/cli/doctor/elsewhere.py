"""Checks of what this machine reaches: the model hub, the hosts of the configuration, the repository and git."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from llorch import __version__, hub
from llorch.cli import remote, remote_ssh
from llorch.cli.doctor.result import Examined, Result, failed, ok, skipped
from llorch.cli.git_facts import headline
from llorch.cli.git_repo import Repository
from llorch.config import expanded
from llorch.errors import HubUnreachable, InvalidConfiguration, LlorchError

HUB = "https://huggingface.co"
HUB_TIMEOUT_S = 5.0
ANY_REPOSITORY = "openai-community/gpt2"
"""Any answer will do, that there is no such thing too."""
MOST_AT_ONCE = 16
VERSION = f"""
echo
{remote.PATH}
if command -v llorch >/dev/null; then llorch --version || echo broken; else echo none; fi
"""


def model_hub(_examined: Examined) -> Result:
    """See that the model hub answers, and that it takes the token if there is one."""
    where = hub.endpoint() or HUB
    try:
        hub.look(ANY_REPOSITORY, "main", timeout_s=HUB_TIMEOUT_S)
    except HubUnreachable as error:
        if not error.retriable:
            return skipped("hub", "offline mode is on (HF_HUB_OFFLINE): only models that are here")
        return failed(
            "hub", f"{where} cannot be reached: models cannot be fetched", fix=f"curl -I {shlex.quote(where)}"
        )
    except LlorchError as error:
        if os.environ.get("HF_TOKEN") and error.code == "FORBIDDEN":
            return failed("hub", f"{where} refuses HF_TOKEN", fix="unset HF_TOKEN")
    return ok("hub", f"{where} answers")


def hosts(examined: Examined) -> Sequence[Result] | Result:
    """See over ssh, of all hosts at once, whether they have this llorch."""
    names = sorted(examined.settings.hosts)
    if not names:
        return skipped("hosts", "none in the configuration")
    with ThreadPoolExecutor(max_workers=MOST_AT_ONCE) as threads:
        return list(threads.map(lambda name: _host(name, examined), names))


def git(examined: Examined) -> Result:
    """See that the repository of `pool git` is one."""
    named = examined.settings.pool.git_repo
    if not named:
        return skipped("git", "no [pool] git_repo")
    try:
        path = expanded(named)
    except InvalidConfiguration as error:
        return failed("git", error.message, fix="set [pool] git_repo to a folder that there is")
    try:
        return ok("git", headline(Repository(path).status()))
    except InvalidConfiguration as error:
        return failed("git", error.message, fix=f"git -C {shlex.quote(str(path))} status")
    except LlorchError as error:
        return failed("git", error.message, fix="git --version")


def _host(name: str, examined: Examined) -> Result:
    check = f"host {name}"
    try:
        there = remote.target(name, examined.settings.hosts, examined.settings.source)
        said = remote.last_line(remote_ssh.converse(there, VERSION))
    except LlorchError as error:
        return failed(check, error.message, fix=f"llorch hosts exec {name} -- true")
    found = said.removeprefix("llorch ")
    if found == "none":
        return failed(check, "has no llorch", fix=f"llorch hosts install {name}")
    if found == "broken":
        return failed(check, "has an llorch that does not run there", fix=f"llorch hosts install {name}")
    if found != __version__:
        return failed(check, f"has llorch {found}, this is {__version__}", fix=f"llorch hosts upgrade {name}")
    return ok(check, f"llorch {found}, over ssh")
