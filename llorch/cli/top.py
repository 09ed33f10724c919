"""`llorch top`: everything that goes on, full screen, once a second, until q is pressed."""

from __future__ import annotations

from llorch.cli.options import Config, Url, orchestrator, settings

EPILOG = "Example: llorch top --url http://blep:8080"


def top(url: Url = None, config: Config = None) -> int:
    """Show pools, devices, workers, the queue and its jobs, anew every second. q quits; the screen comes back."""
    found = settings(config)
    import os
    import sys

    import typer

    from llorch.cli import interrupts
    from llorch.cli.top_screen import show

    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        raise typer.BadParameter("this needs a terminal; else there are llorch pool status and llorch jobs list")

    async def main() -> int:
        async with orchestrator(found, url) as client:
            await show(client)
        return 0

    return interrupts.run(main)
