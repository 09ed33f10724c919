"""LiteLLM's proxy as a process: installed in an environment of its own, told of servers, started, ended."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench.roles import Process
from tests.support.servers import free_port

VERSION = "1.106.12"
"""The newest whose parts were all to be had when this was written."""
PATIENCE_S = 300.0
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches the prices of models
    "LITELLM_TELEMETRY": "False",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "NO_DOCS": "True",
    "PYTHONDONTWRITEBYTECODE": "",  # it is large: what is compiled once is kept
}


def configuration(servers: Mapping[str, tuple[str, str]]) -> str:
    """Return a configuration file: JSON, which is YAML, too. Pure.

    Args:
        servers: The URL of each and what it calls its model, by the name that clients use.
    """
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": "none"},
        }
        for name, (url, model) in servers.items()
    ]
    settings = {"telemetry": False, "request_timeout": 600}
    return json.dumps({"model_list": models, "litellm_settings": settings}, indent=2) + "\n"


def cache() -> Path:
    """Return the folder in which it is installed."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "llorch-bench" / f"litellm-{VERSION}"


def installed() -> str:
    """Return the command, having installed it if it is not there yet."""
    folder = cache()
    stamp = folder / "installed"
    if not stamp.exists():
        print(f"installing LiteLLM {VERSION} in {folder}: this takes some minutes", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        wanted = f"litellm[proxy]=={VERSION}"
        subprocess.run([str(folder / "bin" / "pip"), "install", "-qq", "--no-input", wanted], check=True)
        stamp.touch()
    return str(folder / "bin" / "litellm")


def version(command: str) -> str:
    """Return what a LiteLLM says that it is."""
    done = subprocess.run(
        [command, "--version"], env={**os.environ, **QUIET}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip().rpartition(" ")[2]


@contextlib.contextmanager
def litellm(command: str, servers: Mapping[str, tuple[str, str]], key: str, folder: Path) -> Iterator[Process]:
    """Run the proxy until the block ends, as it is without any option that is about speed; see `configuration`.

    Args:
        command: It.
        servers: What stands behind it.
        key: What it asks clients for; it does not start without one.
        folder: For its files.
    """
    file = folder / "litellm.yaml"
    file.write_text(configuration(servers))
    port = free_port()
    told = ["--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, **QUIET, "LITELLM_MASTER_KEY": key}
    with (folder / "litellm.log").open("ab") as log:
        popen = subprocess.Popen([command, *told], stdout=log, stderr=log, text=True, env=env, cwd=folder)
    proxy = Process(f"http://127.0.0.1:{port}", popen)
    try:
        _until_alive(proxy, folder / "litellm.log")
        yield proxy
    finally:
        popen.terminate()
        try:
            popen.wait(30)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def _until_alive(proxy: Process, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(f"{proxy.url}/health/liveliness", timeout=10):
                return
        except OSError:
            if proxy.popen.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"LiteLLM did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.2)
