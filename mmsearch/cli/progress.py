"""The progress bar of long commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmsearch.cli.units import clock
from mmsearch.printable import printable
from mmsearch.types import Progress


@contextmanager
def progress_bar(
    what: str = "indexing", unit: str = "files", *, quiet: bool
) -> Iterator[Callable[[Progress], None] | None]:
    """Show a bar on stderr with rate, time left and what bounds the run, where a person is looking."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich import progress as bars
    from rich.console import Console

    with bars.Progress(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.fields[note]}", markup=False),  # a file may be called "[red]" or "[/]"
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(what, total=None, rate="", note="")

        def show(state: Progress) -> None:
            speed = bar.tasks[0].speed
            failed = f", {state.failed:,} failed" if state.failed else ""
            if state.under_way is not None:
                failed += f", {printable(state.under_way.name[-40:])} {clock(state.until_s)}"
            bar.update(
                task,
                completed=state.done,
                total=state.total,
                rate=f"{speed:,.0f} {unit}/s" if speed else "",
                note=f"bound by {state.bound}{failed}" if state.bound else "",
            )

        yield show
