"""The chat completions of one server: straight, through llorch and through LiteLLM's proxy, in turn, in one run.

Usage: python -m tests.bench.proxies [--litellm COMMAND | --without-litellm] [...]. Without COMMAND, LiteLLM is
installed in an environment of its own, once. All processes and the load share this machine, so both proxies are slower
here than on one of their own.

Sources, each one process behind all ways: `instant` writes words as fast as they are taken, `paced` one in 20 ms for
each stream, `haiku` is llama.cpp's server with the demo model.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import secrets
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import uvloop

from llorch.cli.bench_figures import counts
from llorch.cli.bench_machine import described, this_machine
from tests.bench import litellm_proxy
from tests.bench.load import Refused, Streamed, kept_up, stream, whole
from tests.bench.proxy_figures import Round, added, figures, table, tokens_told
from tests.bench.roles import llorch, script

PATH = "/v1/chat/completions"
PIECE = re.compile(rb'"content": ?"[^"]')
POEM = "Write a haiku about rain"
HAIKU = Path(__file__).parents[2] / "llorch" / "assets" / "haiku.gguf"
SLOTS, CTX = 64, 96
SOURCES = {
    "instant": ("chat_source", "instant", "0"),
    "paced": ("chat_source", "paced", "20"),
    "haiku": ("bare_engine", str(HAIKU), str(SLOTS), str(CTX), "1"),
}
MODES = ("streamed", "whole")
PATIENCE_S = 60.0
KEY = f"sk-{secrets.token_hex(32)}"
"""Both proxies ask for it."""


@dataclass(frozen=True, slots=True)
class Way:
    """How sources are reached: port and model of each, and the processes that stand between."""

    targets: Mapping[str, tuple[int, str]]
    roots: Sequence[int] = ()

    def cpu_s(self) -> float:
        """Return the processor time that its processes have taken."""
        return sum(sum(one.cpu_times()[:2]) for one in self._tree())

    def memory(self) -> str:
        """Return the most memory that its processes had resident, as Linux tells it, and what is their own now."""
        told = [Path(f"/proc/{one.pid}/status").read_text().partition("VmHWM:")[2] for one in self._tree()]
        peaks_mb = [int(text.split()[0]) * 1024 / 1e6 for text in told]
        own_mb = [one.memory_full_info().uss / 1e6 for one in self._tree()]
        return f"peak memory {added(peaks_mb)}, its own at the end {added(own_mb)}"

    def _tree(self) -> list[psutil.Process]:
        roots = [psutil.Process(pid) for pid in self.roots]
        return [one for root in roots for one in (root, *root.children(recursive=True))]


def _ask(url: str) -> Any:  # noqa: ANN401 - whatever JSON it is
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return json.load(response)


def _until_offered(url: str, refs: set[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not refs <= {model["model_ref"] for pool in _ask(f"{url}/v2/pools")["pools"] for model in pool["models"]}:
        if time.monotonic() > deadline:
            raise TimeoutError("the pool does not offer the servers' models")
        time.sleep(0.05)


@contextlib.contextmanager
def _through_llorch(servers: Mapping[str, tuple[str, str]], folder: Path) -> Iterator[Way]:
    """Run an orchestrator, and a pool that is told of the servers."""
    file = folder / "llorch.toml"
    file.write_text(
        "".join(f'[pool.servers.{name}]\nurl = "{url}"\nslots = {SLOTS}\n' for name, (url, _) in servers.items())
    )
    env = {"LLORCH_API_TOKEN": KEY}
    refs = {name: f"server:{name}/{model}" for name, (_, model) in servers.items()}
    with (
        llorch("serve", "orchestrator", "--port", "0", "--data-dir", f"{folder}/o", env=env) as system,
        llorch(
            *("serve", "pool", "--port", "0", "--data-dir", f"{folder}/p", "--orchestrator", system.url),
            *("--config", str(file)),
            env=env,
        ) as pool,
    ):
        _until_offered(system.url, set(refs.values()))
        targets = {name: (system.port, ref) for name, ref in refs.items()}
        yield Way(targets, (system.popen.pid, pool.popen.pid))


@contextlib.contextmanager
def _ways(names: Sequence[str], litellm: str | None, folder: Path) -> Iterator[dict[str, Way]]:
    """Run the sources and what stands before them."""
    with contextlib.ExitStack() as stack:
        sources = {name: stack.enter_context(script(*SOURCES[name])) for name in names}
        models = {name: _ask(f"{source.url}/v1/models")["data"][0]["id"] for name, source in sources.items()}
        servers = {name: (source.url, models[name]) for name, source in sources.items()}
        ways = {"direct": Way({name: (source.port, models[name]) for name, source in sources.items()})}
        ways["llorch"] = stack.enter_context(_through_llorch(servers, folder))
        if litellm is not None:
            proxy = stack.enter_context(litellm_proxy.litellm(litellm, servers, KEY, folder))
            ways["LiteLLM"] = Way({name: (proxy.port, name) for name in names}, (proxy.popen.pid,))
        yield ways


async def _round(target: tuple[int, str], mode: str, tokens: int, *, in_flight: int, seconds: float) -> Round:
    """Ask for answers for so long; the processor time is left to the caller."""
    port, model = target
    asked: dict[str, object] = {
        "model": model,
        "messages": [{"role": "user", "content": POEM}],
        "max_tokens": tokens,
        "temperature": 0,
    }
    if mode == "streamed":
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(asked).encode()
    authorized = f"Authorization: Bearer {KEY}\r\n"

    async def ask() -> Streamed:
        try:
            if mode == "streamed":
                seen = await stream(port, PATH, body, PIECE, more=authorized)
            else:
                seen = await whole(port, PATH, body, more=authorized)
        except (Refused, OSError, asyncio.IncompleteReadError) as error:
            seen = Streamed(tail=str(error).encode())
        seen.ended = seen.ended and tokens_told(seen.tail) > 0
        return seen

    seen, took_s = await kept_up(ask, in_flight=in_flight, seconds=seconds)
    return Round(seen, took_s, 0.0)


def _measured(way: Way, source: str, mode: str, told: argparse.Namespace, in_flight: int) -> Round:
    target = way.targets[source]
    uvloop.run(_round(target, mode, told.tokens, in_flight=1, seconds=0))
    before_s = way.cpu_s()
    seen = uvloop.run(_round(target, mode, told.tokens, in_flight=in_flight, seconds=told.seconds))
    return Round(seen.seen, seen.seconds, way.cpu_s() - before_s)


def _compare(ways: Mapping[str, Way], told: argparse.Namespace) -> None:
    """Measure all loads in rounds, the ways in another order in each; print what there is."""
    loads = [(source, mode, count) for source in told.sources for mode in MODES for count in told.in_flight]
    rounds: dict[tuple[tuple[str, str, int], str], list[Round]] = defaultdict(list)
    names = list(ways)
    for number in range(told.rounds):
        for load in loads:
            source, mode, count = load
            turn = (number + loads.index(load)) % len(names)
            for name in (*names[turn:], *names[:turn]):
                seen = _measured(ways[name], source, mode, told, count)
                rounds[load, name].append(seen)
                failed = next((one for one in seen.seen if not one.ended), None)
                if failed is not None:
                    print(f"{name} failed: {failed.tail[-300:].decode(errors='replace')}", flush=True)
        print(f"round {number + 1} of {told.rounds}: load average {os.getloadavg()[0]:.1f}", flush=True)
    for load in loads:
        source, mode, count = load
        print(f"\n{source}, {mode}, {count} in flight, {told.tokens} tokens at most")
        print(table({name: figures(rounds[load, name]) for name in names}), flush=True)
    print()
    for name in names[1:]:
        print(f"{name}: {ways[name].memory()}")


def _told(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.proxies", description=(__doc__ or "").split("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--litellm", metavar="COMMAND", help="an installed LiteLLM with its proxy")
    which.add_argument("--without-litellm", action="store_true", help="compare llorch alone")
    parser.add_argument("--sources", default=",".join(SOURCES), help="which of them, with commas (default %(default)s)")
    parser.add_argument("--in-flight", type=counts, default="1,8,32", help=f"up to {SLOTS} (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (default %(default)s)")
    parser.add_argument("--tokens", type=int, default=32, help="of each answer (default %(default)s)")
    told = parser.parse_args(argv)
    told.sources = told.sources.split(",")
    if unknown := set(told.sources) - set(SOURCES):
        parser.error(f"no such source: {', '.join(sorted(unknown))}; there are {', '.join(SOURCES)}")
    if max(told.in_flight) > SLOTS:
        parser.error(f"more than {SLOTS} in flight would wait for the source, not for what stands before it")
    return told


def main(argv: Sequence[str]) -> None:
    """Start everything, compare, print."""
    told = _told(argv)
    command = None if told.without_litellm else told.litellm or litellm_proxy.installed()
    print(described(this_machine()) + (f", LiteLLM {litellm_proxy.version(command)}" if command else ""), flush=True)
    with tempfile.TemporaryDirectory() as folder, _ways(told.sources, command, Path(folder)) as ways:
        _compare(ways, told)


if __name__ == "__main__":
    main(sys.argv[1:])
