"""TERMs → Query: what is text, what is a file, and what weighs how much."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.errors import QueryError
from mmsearch.media import by_name
from mmsearch.paths import expand
from mmsearch.search.inputs import is_several, kind_of
from mmsearch.types import Modality, Term, View

if TYPE_CHECKING:
    from mmsearch.types import QueryInput

_WEIGHT = re.compile(r"^(\d+(?:\.\d+)?):(?=\D)")


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: at least one term of positive weight, how many hits, and of which modalities (none: of all).

    `rerank` None is the direction's default. `cut` hides near-duplicates and weak matches. Only `views` answer (none:
    all): without `text`, no photo is found by its caption. `explain` has each hit say why it is there.
    """

    terms: tuple[Term, ...]
    k: int = 10
    modalities: frozenset[Modality] = frozenset()
    rerank: bool | None = None
    cut: bool = False
    views: frozenset[View] = frozenset()
    explain: bool = False

    def __post_init__(self) -> None:
        if not any(term.weight > 0 for term in self.terms):
            raise QueryError("a query needs at least one term to look for; give a text or a file")
        if self.k < 1:
            raise QueryError(f"k is {self.k}, but at least one hit has to be asked for")
        for term in self.terms:
            if not math.isfinite(term.weight):
                raise QueryError(f"the weight {term.weight} is no number to multiply with; give one such as 0.5 or 2")
            kind_of(term.item)
            if isinstance(term.item, str) and not term.item.strip():
                raise QueryError("an empty text matches nothing; give a text or a file")


def make_query(
    items: QueryInput | Term | Iterable[QueryInput | Term],
    k: int = 10,
    modalities: str | Collection[str | Modality] | None = None,
    rerank: bool | None = None,
    cut: bool = False,
    explain: bool = False,
) -> Query:
    """Build a query as Python asks it: a str is always a text, a Path always a file. Raises `QueryError`.

    A list is several items of one query.
    """
    several: Iterable[Any] = items if is_several(items) else [items]
    terms = tuple(item if isinstance(item, Term) else Term(item) for item in several)
    names = [modalities] if isinstance(modalities, str) else modalities or ()
    try:
        kinds = frozenset(Modality(name) for name in names)
    except ValueError:
        raise QueryError(f"{', '.join(map(str, names))}: modalities are {', '.join(Modality)}") from None
    return Query(terms, k, kinds, rerank, cut, explain=explain)


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
    named = by_name(path.name) is not None
    if _is_file(path) and (named or any(mark in rest for mark in (os.sep, os.altsep) if mark)):
        return Term(path, sign * weight)
    if named:
        hint = f"./{raw} for the file of that name" if match and _is_file(expand(raw)) else "an existing one"
        raise QueryError(f"{rest}: there is no such file; give {hint}, or --text for these words")
    return Term(rest, sign * weight)


def parse_file(raw: str) -> Term:
    """Read a `--like FILE`: always a file."""
    path = expand(raw)
    if not _is_file(path):
        raise QueryError(f"{raw}: there is no such file; give an existing one")
    return Term(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it
        return False
