"""How often a query reads the catalog, and that what it reads is of one moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import event

import mmsearch
from mmsearch import CatalogError, Filter, Library, Settings
from mmsearch.catalog import Catalog, CatalogState

MOST = 4
"""Read transactions of a warm text query: its state, its candidates, those that agree, and whether the state held."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("reads")
    for n in range(12):
        (folder / f"note{n}.txt").write_text(f"a red car, number {n}")
        Image.new("RGB", (8, 8), (20 * n, 0, 0)).save(folder / f"red{n}.png")
    with mmsearch.open(folder / "library", model="mini", settings=Settings(workers=1)) as made:
        assert made.index(folder).added == 24
        yield made


@contextmanager
def transactions(catalog: Catalog) -> Iterator[list[object]]:
    """Give a list that grows with each transaction that is opened meanwhile."""
    opened: list[object] = []

    def note(*about: object) -> None:
        opened.append(about)

    engine = catalog._database._engine
    event.listen(engine, "checkout", note)
    try:
        yield opened
    finally:
        event.remove(engine, "checkout", note)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cut": True},
        {"cut": True, "rerank": True, "explain": True},
        {"cut": True, "modalities": {"text", "image"}, "k": 5},
        {"cut": True, "rerank": True, "filter": Filter.parse("name:* after:2001 -camera:x longer:1 or larger:1B")},
    ],
    ids=["plain", "cut", "reranked", "modalities", "filtered"],
)
def test_a_warm_text_query_opens_at_most_four_read_transactions(library: Library, options: dict[str, Any]) -> None:
    library.query("a red car", **options)
    with transactions(library.seen().catalog) as opened:
        assert library.query("a blue car", **options)
    assert 1 <= len(opened) <= MOST
    with transactions(library.seen().catalog) as opened:
        assert library.query(["a red car", "a note"], **options)
    assert 1 <= len(opened) <= MOST


def test_a_filter_that_is_new_costs_no_further_transaction(library: Library) -> None:
    library.query("a red car")
    with transactions(library.seen().catalog) as opened:
        assert library.query(
            "a red car", rerank=True, filter=Filter(name="red*", after="2000", has="date") | Filter(under="/")
        )
    assert 1 <= len(opened) <= MOST
    with transactions(library.seen().catalog) as opened:
        assert library.query(filter=Filter(name="red*"))
    assert 1 <= len(opened) <= MOST


def test_reads_inside_one_read_see_the_catalog_as_of_one_moment(tmp_path: Path) -> None:
    file = tmp_path / "catalog.sqlite"
    catalog = Catalog(file, create=True, first=("hashing", ["hashing"]))
    try:
        with catalog.one_read(), transactions(catalog) as opened:
            before = catalog.state()
            with sqlite3.connect(file) as other:  # what another process commits meanwhile
                other.execute("INSERT INTO revision (profile_id, token) VALUES (1, 77)")
            other.close()
            assert catalog.state() == before
            assert opened == []
        assert catalog.state() == CatalogState(before.current, 77)
    finally:
        catalog.close()


def test_an_error_inside_one_read_is_not_taken_for_one_of_the_catalog(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.sqlite", create=True, first=("hashing", ["hashing"]))
    with pytest.raises(KeyError), catalog.one_read():
        raise KeyError("a fault of the caller")
    assert catalog.state().current == 1  # and reads go on
    catalog.close()
    with pytest.raises(CatalogError, match="was closed"), catalog.one_read():
        pass
