"""What importing costs and drags along: every module alone, and the command line without the heavy libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A fresh interpreter for each module, without the price of one: a bare parent loads what most modules share, then forks
# once per module. The child imports that module alone, with warnings as errors.
IMPORT_EACH_ALONE = """
import importlib, os, sys, traceback, warnings
import aiohttp.web, aiosqlite, huggingface_hub.hf_api, msgspec, prometheus_client, psutil, rich.live, structlog, typer
import uvloop
warnings.simplefilter("error")
OPTIONAL = ("chat_template", "ctransformers_", "torch_")
for module in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(module)
        except BaseException as error:
            optional = module.startswith(tuple(f"roles.worker.backend.{name}" for name in OPTIONAL))
            extras = {"ctransformers", "jinja2", "numpy", "safetensors", "tokenizers", "torch"}
            if optional and getattr(error, "name", "") in extras:
                os._exit(0)  # what runs in an engine's own process, without the extra
            print(f"--- import {module}", flush=True)
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""

SHOW_HELP = """
import json, sys
sys.argv = ["llorch", "--help"]
from llorch.__main__ import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""

START_WORKER = """
import json, sys
from llorch.__main__ import main
sys.argv = ["llorch", "__worker", "w", '{"told": {"model": "/nowhere.gguf"}, "worker": {"port": 0}}']
try:
    main()
finally:
    print(json.dumps(sorted(name for name, module in sys.modules.items() if module)), file=sys.stderr)
"""

# What only a running role needs.
HEAVY = ("aiohttp", "aiosqlite", "huggingface_hub", "prometheus_client", "sqlite3", "uvloop", "xllamacpp")


def modules() -> list[str]:
    """Return the dotted name of every module of llorch and roles."""
    files = sorted(path.relative_to(ROOT) for package in ("llorch", "roles") for path in (ROOT / package).rglob("*.py"))
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run *script* in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], check=False, cwd=ROOT, capture_output=True, text=True, timeout=300
    )


@pytest.mark.timeout(300)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_every_module_imports_alone_and_without_warnings() -> None:
    done = python(IMPORT_EACH_ALONE, *modules())

    said = done.stdout + done.stderr
    assert not said, said
    assert done.returncode == 0


def test_the_command_line_shows_its_help_without_the_heavy_libraries() -> None:
    done = python(SHOW_HELP)

    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert loaded.intersection(HEAVY) == set()


def test_a_worker_of_a_pool_starts_without_what_only_people_need_and_says_in_one_line_why_it_cannot() -> None:
    done = python(START_WORKER)

    *_, complaint, loaded = done.stderr.splitlines()
    assert complaint.startswith("llorch: there is no model file")
    assert {"typer", "rich", "click"}.isdisjoint(json.loads(loaded))
