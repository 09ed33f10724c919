"""`llorch demo`: everything in this process, and the haiku test."""

from __future__ import annotations

from typing import Annotated

import typer

from llorch.cli.options import Json

EPILOG = "Example: llorch demo"


def demo(
    *,
    as_json: Json = False,
    minute: Annotated[int | None, typer.Option("--minute", min=0, max=59, hidden=True)] = None,
) -> int:
    """Start everything here, and have the built-in model write a haiku about this minute."""
    import time

    begun_s = time.monotonic()
    import asyncio

    from llorch import log
    from llorch.cli import haiku_test, minute_words
    from llorch.cli.output import note, write_json
    from llorch.settings import Log

    log.configure(Log(level="error"))
    wanted = minute_words.word(time.localtime().tm_min if minute is None else minute)
    outcome = asyncio.run(haiku_test.run(wanted, begun_s=begun_s, quiet=as_json))
    if as_json:
        write_json(outcome)
    else:
        note(haiku_test.report(outcome))
    return 0 if outcome.passed else 1
