"""Options that several commands share, the filters of `mmsearch query`, and how its terms are told from options."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from mmsearch.types import Term

if TYPE_CHECKING:
    from mmsearch.filters import Filter

_SHORT = re.compile(r"-k(?:\d+)?|-0|-h")


class QueryCommand(TyperCommand):
    """A command whose arguments may begin with a single minus, which means nothing special: `-5 °C` is a text.

    Options keep their places; what begins with one minus and isn't one of them is moved behind `--`.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # noqa: D102
        takes_value = {
            name
            for parameter in self.params
            for name in parameter.opts
            if not getattr(parameter, "is_flag", False) and name.startswith("-")
        }
        options: list[str] = []
        terms: list[str] = []
        rest = iter(args)
        for token in rest:
            if token == "--":
                terms += rest
            elif token in takes_value:
                options.append(token)
                options += [value for value in [next(rest, None)] if value is not None]
            elif token.startswith("--") or _SHORT.fullmatch(token):
                options.append(token)
            else:
                terms.append(token)
        return super().parse_args(ctx, [*options, "--", *terms])


LibraryOption = Annotated[
    Path | None,
    typer.Option(
        "--library",
        metavar="DIR",
        envvar="MMSEARCH_LIBRARY",
        show_envvar=False,
        help="The library; else $MMSEARCH_LIBRARY, else one in your data folder.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]

_FILTERS = "Filters (also among the terms: after:2019)"


def _text(name: str, metavar: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, metavar=metavar, help=text, rich_help_panel=_FILTERS)
    return option


UnderOption = Annotated[
    str | None, _text("--under", "FOLDER", "Below this folder: a path, or names on the way, such as Holidays.")
]
NameOption = Annotated[str | None, _text("--name", "GLOB", "Named like this: *.heic")]
AfterOption = Annotated[
    str | None, _text("--after", "DATE", "From this date on: 2019, 2019-06-01, March 2020, last summer.")
]
BeforeOption = Annotated[str | None, _text("--before", "DATE", "Before this date.")]
NearOption = Annotated[str | None, _text("--near", "PLACE|LAT,LON", "Taken near a town or a point.")]
WithinOption = Annotated[
    float | None, typer.Option("--within", metavar="KM", help="How near that is.", rich_help_panel=_FILTERS)
]
CameraOption = Annotated[str | None, _text("--camera", "TEXT", "Taken with a camera whose name has this in it.")]
LongerOption = Annotated[
    float | None, typer.Option("--longer", metavar="S", help="Longer than this.", rich_help_panel=_FILTERS)
]
ShorterOption = Annotated[
    float | None, typer.Option("--shorter", metavar="S", help="Shorter than this.", rich_help_panel=_FILTERS)
]


def read_terms(
    terms: Iterable[str], texts: Iterable[str], files: Iterable[str], negative: Iterable[str]
) -> tuple[list[Term], Filter | None]:
    """Return what TERMs, --text, --like and --not ask for, and the filters among them. Raises `QueryError`.

    A filter behind --not excludes what it holds for.
    """
    from mmsearch.search.query import parse_file, parse_terms  # `--help` does without

    asked, chosen = parse_terms(terms)
    asked += [*map(Term, texts), *map(parse_file, files)]
    for term in negative:
        steered, excluded = parse_terms([term])
        asked += [Term(one.item, -one.weight) for one in steered]
        if excluded is not None:
            chosen = ~excluded if chosen is None else chosen & ~excluded
    return asked, chosen


def filter_of(**options: Any) -> Filter | None:  # noqa: ANN401  each has the type of the `Filter` field of its name
    """Return the filter of these fields, None where none of them is given. Raises `FilterError`."""
    given = {field: value for field, value in options.items() if value is not None and value != []}
    if not given:
        return None
    from mmsearch.filters import Filter  # no query without a filter pays for it

    return Filter(**given)
