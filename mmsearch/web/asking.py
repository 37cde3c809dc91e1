"""What a client asks → a query of the library: the one place where `q` is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mmsearch.errors import QueryError
from mmsearch.search.query import Query, combined, read_line
from mmsearch.types import Modality, Term
from mmsearch.web.service import Service

MOST_HITS = 10_000
"""The most hits of one answer."""
_MOST_TEXT = 10_000
_MOST_ITEMS = 32


class Search(BaseModel):
    """What to look for: words, items of the library that hits are like or unlike, or both."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid")

    q: Annotated[
        str, Field(max_length=_MOST_TEXT, description="Words and filters, as in the page's box: beach after:2019-06.")
    ] = ""
    k: Annotated[int, Field(ge=1, le=MOST_HITS, description="How many hits.")] = 10
    kinds: Annotated[list[Modality], Field(validation_alias="in", description="Only files of these kinds.")] = []
    like: Annotated[list[int], Field(max_length=_MOST_ITEMS, description="Items that hits are like.")] = []
    unlike: Annotated[list[int], Field(max_length=_MOST_ITEMS, description="Items to steer away from.")] = []
    all: Annotated[bool, Field(description="Also near-duplicates and weak matches.")] = False
    rerank: Annotated[bool | None, Field(description="Let hits that agree rise; else where it gains.")] = None
    explain: Annotated[bool, Field(description="Say what each score is made of.")] = False


def query_of(search: Search, service: Service, files: Sequence[bytes] = ()) -> Query:
    """Return the query that a client asks; `files` are the contents of what it uploaded.

    What a person writes into the box is words and filters: no path of the disk is ever opened for a client. Raises
    `QueryError`, of it `FilterError` with the character that is wrong, and `NoItemError` for an item that isn't there.
    """
    words, chosen = read_line(search.q)
    terms = [
        *words,
        *(Term(file) for file in files),
        *(Term(_path_of(number, service)) for number in search.like),
        *(Term(_path_of(number, service), -1.0) for number in search.unlike),
    ]
    chosen = combined(chosen, search.kinds)
    if not terms and chosen is None:
        raise QueryError("there is nothing to look for; give q, an item, or a file")
    return Query(tuple(terms), search.k, chosen, search.rerank, cut=not search.all, explain=search.explain)


def _path_of(number: int, service: Service) -> Path:
    """Return where an item lies, once that is seen to be below the library's folders."""
    opened = service.open_item(number)
    opened.file.close()
    return opened.item.path
