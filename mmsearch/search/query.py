"""TERMs → Query: what is text, what is a file, what weighs how much, and what filters."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mmsearch.errors import QueryError
from mmsearch.media import by_name
from mmsearch.paths import expand
from mmsearch.search.inputs import is_several, kind_of
from mmsearch.types import Modality, Term, View

if TYPE_CHECKING:
    from mmsearch.filters import Filter
    from mmsearch.types import QueryInput

_WEIGHT = re.compile(r"^(\d+(?:\.\d+)?):(?=\D)")


@dataclass(frozen=True, slots=True)
class Query:
    """A question to a library: what to look for, how many hits to return, and which contents may answer.

    There is a term of positive weight, or no term and a filter: then the newest contents answer first. Without a
    `filter`, all contents may. `rerank` None is the direction's default. `cut` hides near-duplicates and weak matches.
    Only `views` answer (none: all): without `text`, no photo is found by its caption. `explain` has each hit say why it
    is there.
    """

    terms: tuple[Term, ...]
    k: int = 10
    filter: Filter | None = None
    rerank: bool | None = None
    cut: bool = False
    views: frozenset[View] = frozenset()
    explain: bool = False

    def __post_init__(self) -> None:
        lists = not self.terms and self.filter is not None
        if not lists and not any(term.weight > 0 for term in self.terms):
            raise QueryError("a query needs at least one term to look for; give a text or a file, or a filter alone")
        if self.k < 1:
            raise QueryError(f"k is {self.k}, but at least one hit has to be asked for")
        for term in self.terms:
            if not math.isfinite(term.weight):
                raise QueryError(f"the weight {term.weight} is no number to multiply with; give one such as 0.5 or 2")
            kind_of(term.item)
            if isinstance(term.item, str) and not term.item.strip():
                raise QueryError("an empty text matches nothing; give a text or a file")

    @classmethod
    def parse(cls, text: str, k: int = 10, *, cut: bool = False) -> Self:
        """Return the query that is written in one line: a text to look for, with filters among its words.

            Query.parse('red car under:Holidays after:2019-06 -camera:pixel')

        Words side by side are one text, whatever they name: no file is opened. See `docs/filters.md`. Raises
        `FilterError`, which says at which character.
        """
        terms, chosen = read_line(text)
        return cls(tuple(terms), k, chosen, cut=cut)


def make_query(
    items: QueryInput | Term | Iterable[QueryInput | Term],
    k: int = 10,
    modalities: str | Collection[str | Modality] | None = None,
    rerank: bool | None = None,
    cut: bool = False,
    explain: bool = False,
    filter: Filter | None = None,
) -> Query:
    """Build a query as Python asks it: a str is always a text, a Path always a file. Raises `QueryError`.

    A list is several items of one query. Of `modalities` and `filter`, both have to hold.
    """
    several: Iterable[Any] = items if is_several(items) else [items]
    terms = tuple(item if isinstance(item, Term) else Term(item) for item in several)
    return Query(terms, k, combined(filter, modalities), rerank, cut, explain=explain)


def combined(filter: Filter | None, modalities: str | Collection[str | Modality] | None) -> Filter | None:
    """Return the filter that holds where another does and the content is of one of these kinds; None asks nothing."""
    if not modalities:
        return filter
    from mmsearch.filters import Filter  # no query without a filter pays for it

    names = [modalities] if isinstance(modalities, str) else modalities
    try:
        kinds = Filter(kind={Modality(name) for name in names})
    except ValueError:
        raise QueryError(f"{', '.join(map(str, names))}: modalities are {', '.join(Modality)}") from None
    return kinds if filter is None else filter & kinds


def read_line(text: str) -> tuple[list[Term], Filter | None]:
    """Read one line of words and filters: see `Query.parse`. Raises `FilterError`."""
    if not text.strip():
        return [], None
    if not _may_filter(text):
        return [Term(text)], None
    from mmsearch.filters import Filter, parse  # no query without a filter pays for it

    parsed = parse(text)
    chosen = Filter.of(parsed.expression)
    return [*map(Term, parsed.texts), *map(Term, parsed.phrases)], None if chosen.is_everything else chosen


def parse_terms(raw: Iterable[str]) -> tuple[list[Term], Filter | None]:
    """Read the TERMs of a command line: texts and files to look for, and the filters among them.

    What `parse_term` takes for a file that exists is one, whatever else it could be. Raises `QueryError`.
    """
    plain: list[str] = []
    terms: list[Term] = []
    for term in raw:
        if _may_filter(term) and _existing(expand(term), term):
            terms.append(parse_term(term))
        else:
            plain.append(term)
    if not any(map(_may_filter, plain)):
        return [*terms, *map(parse_term, plain)], None
    from mmsearch.filters import Filter, parse_terms

    parsed = parse_terms(plain)
    chosen = Filter.of(parsed.expression)
    terms += [*map(parse_term, parsed.texts), *map(Term, parsed.phrases)]
    return terms, None if chosen.is_everything else chosen


def _may_filter(term: str) -> bool:
    """Return whether a term has one of the signs of a filter in it."""
    return ":" in term or '"' in term


def parse_term(raw: str, sign: int = 1) -> Term:
    """Read a TERM of the command line: an optional weight as in `2:beach`, then a file or a text.

    It is a file if it names an existing regular file and has a path separator or a known extension. A known extension
    without such a file is a `QueryError`, so that a mistyped name isn't searched for as words.
    """
    match = _WEIGHT.match(raw)
    weight, rest = (float(match[1]), raw[match.end() :]) if match else (1.0, raw)
    if match and weight == 0:
        raise QueryError(f"{raw}: a weight of 0 asks for nothing; leave the term out")
    path = expand(rest)
    if _existing(path, rest):
        return Term(path, sign * weight)
    if by_name(path.name) is not None and not _is_address(rest):
        hint = f"./{raw} for the file of that name" if match and _is_file(expand(raw)) else "an existing one"
        raise QueryError(f"{rest}: there is no such file; give {hint}, or --text for these words")
    return Term(rest, sign * weight)


def parse_file(raw: str) -> Term:
    """Read a `--like FILE`: always a file."""
    path = expand(raw)
    if not _is_file(path):
        raise QueryError(f"{raw}: there is no such file; give an existing one")
    return Term(path)


def _existing(path: Path, raw: str) -> bool:
    """Return whether a term names an existing file, by a path or by a name with a known extension."""
    is_named = any(mark in raw for mark in (os.sep, os.altsep) if mark) or by_name(path.name) is not None
    return is_named and _is_file(path)


def _is_address(raw: str) -> bool:
    """Return whether a term is the address of a page, or ends as a folder does: neither is the name of a file."""
    return "://" in raw or raw.endswith(("/", os.sep))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it
        return False
