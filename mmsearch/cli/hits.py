"""How the hits of a query are printed: a table for a person, lines into a pipe, paths, or JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from mmsearch import wire
from mmsearch.cli.streams import print_json, warn
from mmsearch.cli.units import count, span
from mmsearch.printable import printable
from mmsearch.types import Answer, Hit, Why

_EXCERPT = 160
_EPOCH = datetime(1970, 1, 1)
_STRONG = 0.5
"""The confidence that an answer should have not to be one that any query has."""


def show_json(hits: Sequence[Hit]) -> None:
    """Print hits as JSON, one object a line."""
    for hit in hits:
        print_json(wire.from_hit(hit))


def show_paths(hits: Sequence[Hit], *, nul: bool) -> None:
    """Print the bytes of each hit's path, and nothing else; on a terminal, what could steer it is escaped.

    A line ends with the moment of the hit, as a media fragment (`#t=725,731`, https://www.w3.org/TR/media-frags/).
    What ends with `nul` goes to programs that open files, and is a path and no more.
    """
    if sys.stdout.isatty():
        for hit in hits:
            sys.stdout.write(printable(hit.path) + ("\0" if nul else f"{_fragment(hit)}\n"))
        return
    lines = (os.fsencode(hit.path) + (b"\0" if nul else f"{_fragment(hit)}\n".encode()) for hit in hits)
    sys.stdout.buffer.write(b"".join(lines))
    sys.stdout.buffer.flush()


def _fragment(hit: Hit) -> str:
    if hit.start_s is None or hit.end_s is None:
        return ""
    return "#t=" + ",".join(f"{seconds:.2f}".rstrip("0").rstrip(".") for seconds in (hit.start_s, hit.end_s))


def show_hits(answer: Answer, outdated: int = 0) -> None:
    """Print hits: as a table, with thumbnails where the terminal shows them, or a line each, with tabs, into a pipe."""
    if not answer.hits:
        warn("nothing here looks, sounds or reads like it" if answer.weak else "nothing found")
    elif not sys.stdout.isatty():
        for hit in answer.hits:
            fields = [str(hit.rank), _score(hit), hit.view, *(words for words, _ in _where(hit))]
            sys.stdout.write("\t".join(fields) + "\n")
    else:
        _show_table(answer.hits)
    surest = max((hit.confidence for hit in answer.hits if hit.confidence is not None), default=1.0)
    if surest < _STRONG:
        warn(f"nothing here stands out: at most {surest:.0%} of unrelated queries find less")
    hidden = [(answer.hidden, "near-duplicate", "s"), (answer.weak, "weak match", "es")]
    if said := " and ".join(f"{n:,} {what}{plural if n > 1 else ''}" for n, what, plural in hidden if n):
        warn(f"{said} hidden; show them with --all")
    if outdated:
        warn(f"{count(outdated, 'file')} embedded by another version of the model; run 'mmsearch index' on them again")


def _show_table(hits: Sequence[Hit]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mmsearch.cli import thumbnails

    console = Console()
    protocol = thumbnails.protocol(sys.stdout)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", justify="right", style="dim", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("sure", justify="right", style="dim", no_wrap=True)
    table.add_column("by", style="dim", no_wrap=True)
    table.add_column("found", overflow="fold")
    for hit in hits:
        parts = [(words if n == 0 else f"\n{words}", style) for n, (words, style) in enumerate(_where(hit))]
        if protocol is None:
            table.add_row(str(hit.rank), _score(hit), _sure(hit), hit.view, Text.assemble(*parts))
        else:
            console.print(
                Text.assemble((f"{hit.rank:>3}  {_score(hit)}  {_sure(hit):>4}  {hit.view:<6}  ", "dim"), *parts)
            )
            if picture := thumbnails.escape(hit, protocol):
                sys.stdout.write(f"     {picture}\n")
    if protocol is None:
        console.print(table)


def _where(hit: Hit) -> list[tuple[str, str]]:
    """Return where a hit is and what it says, each with its style."""
    moment = ""
    if hit.start_s is not None and hit.end_s is not None:
        moment = f"  {span(hit.start_s, hit.end_s)}"
    page = "" if hit.page is None else f"  p. {hit.page}"
    parts = [(printable(_short(hit.path)) + moment + page, "")]
    if hit.text:
        text = " ".join(hit.text.split())
        parts.append((f"{printable(text[:_EXCERPT])}{'…' if len(text) > _EXCERPT else ''}", "dim"))
    if hit.why is not None:
        parts.append((_reasons(hit.why), "dim"))
    return parts


def _score(hit: Hit) -> str:
    """Return the score of a hit; of one that was found by a filter alone, its date, which is its score."""
    if hit.space:
        return f"{hit.score:.2f}"
    return (_EPOCH + timedelta(seconds=hit.score)).date().isoformat()


def _sure(hit: Hit) -> str:
    return "" if hit.confidence is None else f"{hit.confidence:.0%}"


def _reasons(why: Why) -> str:
    """Return what a score is made of, in one line."""
    parts = [f"{why.first_stage:.2f} at first"]
    if why.agreement or why.neighbours:
        likes = ", ".join(f"{printable(one.path.name)} {one.similarity:.1f}" for one in why.neighbours)
        parts.append(f"{why.agreement:+.2f} by agreement" + (f" with {likes}" if likes else ""))
    if why.hubness is not None:
        parts.append(f"a hub by {why.hubness:.2f}")
    return "; ".join(parts)


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
