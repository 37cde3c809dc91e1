"""`mmsearch serve` and `mmsearch mcp`: what they need is loaded only here."""

from __future__ import annotations

from pathlib import Path

import typer

from mmsearch.cli.streams import note
from mmsearch.extras import needed_for
from mmsearch.library import Library
from mmsearch.printable import printable


def serve(folder: Path | None, host: str, port: int, token: str | None) -> None:
    """Serve a library until a signal ends it. Raises `MissingPackageError` without the extra `[serve]`."""
    with needed_for("the server"):
        from mmsearch.web.policy import Policy
        from mmsearch.web.server import serve as run

    Policy.of(host, token)  # what can't be served is said before anything is loaded
    library = Library(folder, create=False)

    def ready(address: str) -> None:
        note(f"serving {printable(library.folder)} at {address} (Ctrl-C ends it)")

    if run(library, host, port, token, ready):
        raise typer.Exit(130)


def serve_agent(folder: Path | None, *, allow_index: bool) -> None:
    """Serve a library to an agent over stdin and stdout. Raises `MissingPackageError` without the extra `[mcp]`."""
    with needed_for("the agents' door", "mcp"):
        from mmsearch.web.agents import Agents, run_stdio
        from mmsearch.web.service import Service
    import anyio

    service = Service(Library(folder, create=False))
    try:
        anyio.run(run_stdio, Agents(service, allow_index=allow_index))
    finally:
        service.close()
