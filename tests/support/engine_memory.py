"""Loads a model exactly as a worker's engine process does, and tells what memory that took.

Run as `python -m tests.support.engine_memory OPTIONS`; `measure` does so. The options are the engine process's own. It
differs in one thing: llama.cpp writes more of its log, which names the size of each buffer.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from llorch.wire.engine_options import PLAIN, EngineOptions, scaled

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20
_BUFFER = re.compile(r"([A-Za-z_]+) +(model|KV|output|compute) buffer size = +([\d.]+) MiB")


@dataclass(frozen=True, slots=True)
class Taken:
    """Bytes: of llama.cpp's buffers by what they are for, and of the process by what backs its pages.

    `mapped` are weights that lie in their file's pages, `copied` those that were laid out anew.
    """

    mapped: int
    copied: int
    kv: int
    compute: int
    anonymous: int
    file: int

    @property
    def buffers(self) -> int:
        """All buffers; weights that were laid out anew are not needed in their file's pages, and count once."""
        return max(self.mapped, self.copied) + self.kv + self.compute


def measure(
    model: Path, *, slots: int, ctx: int, batch: int = 128, options: EngineOptions = PLAIN, pooling: int = 0
) -> Taken:
    """Load a model in a process of its own, with the files that *options* name; return what it took."""
    with tempfile.TemporaryDirectory(prefix="llorch-") as folder:
        told = {
            "model_path": str(model),
            "backend": "cpu",
            "device_index": 0,
            "slots": slots,
            "ctx": ctx,
            "threads": 1,
            "batch": batch,
            "pooling": pooling,
            "socket": f"{folder}/e.sock",
            "key": "k",
            "kv_type": options.kv_type,
            "lora": [scaled(one) for one in options.lora],
            "draft": options.draft,
            "projector": options.projector,
        }
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.engine_memory", json.dumps(told)],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
    sizes: dict[str, int] = {}
    for backend, kind, size in _BUFFER.findall(done.stderr):
        name = "mapped" if backend.endswith("_Mapped") else "copied" if kind == "model" else kind
        sizes[name] = sizes.get(name, 0) + round(float(size) * MIB)
    pages = json.loads(done.stdout.splitlines()[-1])
    return Taken(
        mapped=sizes.get("mapped", 0),
        copied=sizes.get("copied", 0),
        kv=sizes.get("KV", 0),
        compute=sizes["compute"] + sizes.get("output", 0),
        anonymous=pages["Anonymous"],
        file=pages["Rss"] - pages["Anonymous"],  # in full, also what engines of other tests have mapped
    )


def main() -> None:
    """Load, tell, end."""
    import xllamacpp

    from roles.worker.llamacpp_host import _parameters

    parameters = _parameters(xllamacpp, json.loads(sys.argv[1]))
    parameters.verbosity = 4  # type: ignore[attr-defined]
    # Kept to the end: one that is let go of before its loop has begun is waited for for ever.
    server = xllamacpp.Server(parameters)  # noqa: F841
    lines = Path("/proc/self/smaps_rollup").read_text("ascii").splitlines()[1:]
    print(json.dumps({name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
