"""tests/bench/proxies.py as a person runs it, without LiteLLM: what is streamed and what is not is answered whole."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.e2e.processes import finish

ROOT = Path(__file__).resolve().parents[2]


async def test_llorch_is_compared_with_the_servers_behind_it() -> None:
    told = ("--without-litellm", "--sources", "haiku", "--rounds", "1", "--seconds", "0", "--in-flight", "1,2")

    status, out, said = await finish(sys.executable, "-m", "tests.bench.proxies", *told, env={"PYTHONPATH": str(ROOT)})

    assert status == 0, said
    lines = re.findall(r"^(direct|llorch) +(\d+) +(\d+)  ", out, re.MULTILINE)
    assert lines == [(way, str(count), "0") for _ in range(2) for count in (1, 2) for way in ("direct", "llorch")]
    assert len(re.findall(r"^llorch .*\([+-]\d+\.\d\)", out, re.MULTILINE)) == 4
    assert re.search(r"^llorch: peak memory \d+ MB", out, re.MULTILINE)
