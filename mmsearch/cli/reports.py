"""What commands report: tables and sentences for people, JSON for programs. The hits of a query are in `hits`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch import wire
from mmsearch.cli.streams import print_json, say, warn
from mmsearch.cli.units import count
from mmsearch.spaces import ModelInfo
from mmsearch.types import AdaptReport, Check, Evaluation, Failure, IndexReport, Status

if TYPE_CHECKING:
    from mmsearch.metrics import Interval

_SHOWN_FAILURES = 10
_SHOWN_ROOTS = 10


def show_report(report: IndexReport, standing: int, *, as_json: bool, pruned: bool = False) -> None:
    """Print what an index run did; `standing` are the files that can't be indexed, of this run and before."""
    if as_json:
        print_json(wire.from_index_report(report))
    else:
        say(
            f"{report.added:,} added, {report.updated:,} updated, {report.reused:,} reused, "
            f"{report.removed:,} removed, {report.failed:,} failed in {report.seconds:.1f} s"
        )
        for failure in report.failures[:_SHOWN_FAILURES]:
            warn(f"{failure.path}: {failure.reason}")
        if len(report.failures) > _SHOWN_FAILURES:
            warn(f"and {len(report.failures) - _SHOWN_FAILURES:,} more; 'mmsearch status' lists them")
        if standing > len(report.failures):
            warn(f"{count(standing, 'file')} in all can't be indexed, or not wholly; 'mmsearch status' lists them")
    for folder in report.kept:
        warn(f"{folder} shows no media any more; what the library holds there is kept (drop it with --prune)")
    if report.switched_to is not None:
        rest = "" if pruned else "; the old vectors are kept until a run with --prune"
        warn(f"the library now uses the model {report.switched_to!r}{rest}")
    if report.unreached:
        warn(
            f"{count(report.unreached, 'file')} can't be reached or embedded, {report.first_unreached} for one, so the "
            "library keeps its model; mount their disk and run this again, or drop them "
            + ("with 'mmsearch forget'" if pruned else "with --prune")
        )
    if report.interrupted:
        warn("stopped early; what was ready is committed, and the same command goes on from there")


def show_status(status: Status, failures: Sequence[Failure], *, as_json: bool) -> None:
    """Print what a library holds, and the files that can't be indexed, by reason."""
    if as_json:
        print_json(wire.from_status(status))
        return
    say(f"library   {status.library} ({status.bytes / 1e6:,.1f} MB)")
    say(f"model     {status.profile}")
    if status.precision:
        say(f"precision {status.precision}")
    if status.changing_to is not None:
        done = f"{status.changed:,} of {count(sum(status.media.values()), 'file')}"
        say(f"change    to {status.changing_to}: {done}; run 'mmsearch index PATH --model {status.changing_to}' again")
    if status.kept_models:
        say(f"kept      vectors of {', '.join(status.kept_models)}; drop them with 'mmsearch index PATH --prune'")
    for path, globs in islice(status.roots.items(), _SHOWN_ROOTS):
        say(f"root      {path}" + (f", without {' '.join(globs)}" if globs else ""))
    if len(status.roots) > _SHOWN_ROOTS:
        say(f"          and {len(status.roots) - _SHOWN_ROOTS:,} more; --json lists them")
    say(
        "media     "
        + ", ".join(f"{count:,} {kind}" for kind, count in status.media.items() if count or kind == "image")
    )
    say(f"segments  {status.segments:,}")
    for index in status.indexes:
        state = " (behind; the next query or index run catches it up)" if index.stale else ""
        say(f"index     {index.space} {index.view}: {count(index.count, 'vector')}, {index.kind}{state}")
    if status.outdated:
        say(f"outdated  {count(status.outdated, 'file')}; run 'mmsearch index' on them again")
    if status.unfinished:
        say(f"begun     {count(status.unfinished, 'file')} not read to the end; run 'mmsearch index' on them again")
    say(f"failures  {status.failures:,}")
    for reason, paths in _by_reason(failures).items():
        say(f"  {reason}")
        for path in paths:
            say(f"    {path}")


def _by_reason(failures: Sequence[Failure]) -> dict[str, list[Path]]:
    """Return the failed paths by reason, the most frequent first."""
    found: dict[str, list[Path]] = {}
    for failure in failures:
        found.setdefault(failure.reason, []).append(failure.path)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def show_evaluations(evaluations: Sequence[Evaluation], *, as_json: bool) -> None:
    """Print how well a library answers: a block for each direction, or into a pipe a line for each of its metrics."""
    for evaluation in evaluations:
        direction, difference = evaluation.direction, evaluation.difference
        if as_json:
            print_json(wire.from_evaluation(evaluation))
            continue
        terminal = sys.stdout.isatty()
        if terminal:
            what = f"{'re-ranked [95 %]':<28}  what that adds [95 %]" if difference else "[95 %]"
            say(f"{direction}, {evaluation.queries:,} {'query' if evaluation.queries == 1 else 'queries'}")
            say(f"  {'':<16}{what}")
        for name, found in evaluation.metrics.items():
            added = difference.get(name)
            if terminal:
                say(f"  {name:<16}{_interval(found):<28}  {_interval(added, '+') if added else ''}".rstrip())
            else:
                numbers = [*wire.from_interval(found), *(wire.from_interval(added) if added else ())]
                fields_of_line = [direction, str(evaluation.queries), name, *(f"{number:.4f}" for number in numbers)]
                sys.stdout.write("\t".join(fields_of_line) + "\n")


def show_adapted(report: AdaptReport, *, as_json: bool) -> None:
    """Print what adapting gained in each direction, and whether it was kept."""
    if as_json:
        print_json(wire.from_adapt_report(report))
        return
    say(f"{'held out':<16}{'queries':>8}  {'':<10}{'before':>7}{'after':>7}  difference [95 %]")
    for gain in report.gains:
        numbers = f"{gain.before:7.3f}{gain.after:7.3f}  {_interval(gain.difference, '+')}"
        say(f"{gain.direction:<16}{gain.queries:>8,}  {gain.metric:<10}{numbers}")
    of = f"{_interval(report.overall, '+')} over all of {count(report.pairs, 'pair')}, {report.seconds:.0f} s"
    if report.adapted:
        say(f"adapted: {of}; the library now uses {report.model}")
    else:
        say(f"kept: nothing was gained that is beyond doubt ({of}); the library still uses {report.model}")


def show_written(lines: int, file: Path, *, as_json: bool) -> None:
    """Print how many lines were written."""
    if as_json:
        print_json(wire.from_written(lines))
    else:
        say(f"{count(lines, 'line')} written to {file}")


def _interval(interval: Interval, sign: str = "") -> str:
    value, low, high = (f"{number:{sign}.3f}" for number in wire.from_interval(interval))
    return f"{value} [{low}, {high}]"


def show_checks(checks: Sequence[Check], *, as_json: bool) -> None:
    """Print what the doctor has checked, a line each, and in the end what to do."""
    if as_json:
        for check in checks:
            print_json(wire.from_check(check))
    else:
        for check in checks:
            state = "mended" if check.repaired else "ok" if check.ok else "WRONG"
            say(f"{state:<7} {check.check:<15} {check.detail}")
    if wrong := sum(not check.ok for check in checks):
        warn(f"{count(wrong, 'check')} failed; 'mmsearch doctor --repair' mends what can be mended")


def show_models(models: Sequence[ModelInfo]) -> None:
    """Print the models as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("name", "embeds", "dim", "MB", "languages", "licence", "text→image recall@1", ""):
        justify: Any = "right" if column in ("dim", "MB") else "left"
        table.add_column(column, justify=justify, no_wrap=column == "name", overflow="fold")
    for model in models:
        views = ", ".join(model.views)
        size = f"{model.megabytes:,.1f}"
        row = (model.name, views, str(model.dim), size, model.languages, model.licence, model.recall, model.summary)
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(
        "Any other model of open_clip: NAME/TAG, NAME:CHECKPOINT, hf-hub:ORG/REPO, local-dir:DIR. Mind its licence: "
        "that of MobileCLIP2 and MetaCLIP 2 forbids commercial use.",
        style="dim",
        highlight=False,
    )
