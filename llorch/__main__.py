"""`python -m llorch`, the installed commands, and the names the roles had as separate programs."""

from __future__ import annotations

import sys
from pathlib import Path

from llorch.program import hold_own

OLD_NAMES: dict[str, list[str]] = {
    "orchestratord": ["serve", "orchestrator"],
    "pool-managerd": ["serve", "pool"],
    "llorch-candled": ["serve", "worker"],
    "llorch-pool": ["pool"],
    "pool-ctl": ["pool"],
    "llorch-ctl": [],
}


def arguments(argv: list[str]) -> list[str]:
    """Return llorch's own arguments for *argv*, whose first entry may be one of the old names."""
    name = Path(argv[0]).name.removesuffix(".exe")
    return [*OLD_NAMES.get(name, []), *argv[1:]]


def main() -> int:
    """Run the command line; return the exit status."""
    hold_own()
    given = arguments(sys.argv)
    if given[:2] == ["__engine", "torch"]:
        from roles.worker.backend.torch_host import main as torch_engine

        return torch_engine(given[2:])
    if given[:2] == ["__engine", "ctransformers"]:
        from roles.worker.backend.ctransformers_host import main as ctransformers_engine

        return ctransformers_engine(given[2:])
    if given[:1] == ["__engine"]:
        from roles.worker.llamacpp_host import main as engine

        return engine()
    if given[:1] == ["__guard"]:
        from roles.worker.openai_guard import main as guard

        return guard(given[1:])
    if given[:1] == ["__worker"]:
        from llorch.cli.pooled_worker import main as worker

        return worker(given[1:])
    if given[:1] == ["__fetch"]:
        from roles.pool.model_cache.fetch import main as fetch

        return fetch()
    from llorch.cli import run

    return run(given)


if __name__ == "__main__":
    sys.exit(main())
