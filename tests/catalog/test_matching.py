"""What a filter holds for is what a plain reading of the catalog says, however it is asked and whatever changes."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from support.random_facts import EXPRESSIONS, ITEMS, Collection, made, plainly, random_filter
from support.shelf import open_shelf

from mmsearch import Filter, Modality
from mmsearch.catalog import NewContent, NewMedia
from mmsearch.catalog.columns import local_offsets_s
from mmsearch.records import FileFacts, Segment
from mmsearch.types import View
from mmsearch.vectors import VectorIndex, bitmap


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with open_shelf(tmp_path) as shelf:
        yield Collection(shelf, 18)


def test_a_thousand_random_filters_hold_for_what_a_plain_reading_says(collection: Collection) -> None:
    dice, matcher = random.Random(7), collection.shelf.catalog.matcher()
    shelf, space = collection.shelf, collection.shelf.space
    indexes: dict[str, VectorIndex] = {}
    shares = []
    for n in range(EXPRESSIONS):
        if n % 250 == 0:
            if n:
                collection.change()
            owners = collection.owners()
            places = {"FAISS": shelf.indexes, "exact": shelf.indexes.exact()}
            indexes = {
                f"{name} {view}": each.get(space, view)
                for name, each in places.items()
                for view in (View.VISUAL, View.AUDIO)
            }
        chosen = random_filter(dice)
        assert Filter.parse(str(chosen)) == chosen
        expected = {i for i, item in collection.items.items() if plainly(chosen.expression, item)}
        matches = matcher.matches(chosen.expression)
        ids = np.asarray(sorted(collection.items), np.int64)
        assert set(ids[matches.among(ids)].tolist()) == expected, chosen
        embeddings = matches.embeddings()
        assert (embeddings is None) == (len(expected) == len(collection.items))
        if embeddings is not None:
            assert {owners[i] for i in embeddings.tolist()} <= expected
        shares.append(len(expected) / len(collection.items))
        if n % 10 == 0:
            allowed = None if embeddings is None else bitmap(embeddings)
            for name, index in indexes.items():
                live = {int(i) for i in index.ids() if owners[int(i)] in expected}
                _, found = index.search(np.ones((1, space.dim), np.float32), index.count, allowed)
                assert {int(i) for i in found[0] if i >= 0} == live, (name, chosen)
    assert 0.1 < np.mean(np.asarray(shares) == 0) < 0.5  # the filters are worth asking
    assert np.mean((np.asarray(shares) > 0.05) & (np.asarray(shares) < 0.95)) > 0.35


def test_the_newest_that_a_filter_holds_for_are_listed_first(collection: Collection) -> None:
    chosen = Filter(kind="image")
    listed = collection.shelf.catalog.matcher().newest(chosen.expression, ITEMS)
    dates = {i: made(item, datetime(2000, 1, 1)) for i, item in collection.items.items() if item.kind is Modality.IMAGE}
    assert [i for i, _ in listed] == sorted(
        dates, key=lambda i: (-(dates[i] - datetime(1970, 1, 1)).total_seconds(), i)
    )
    first = collection.shelf.catalog.matcher().newest(chosen.expression, 3)
    assert first == listed[:3]
    assert datetime(1970, 1, 1) + timedelta(seconds=first[0][1]) == dates[first[0][0]]


def test_what_is_known_of_a_library_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    with open_shelf(tmp_path) as shelf:
        shelf.add("a", "b")
        shelf.add("film", modality=Modality.VIDEO)
        matcher, images = shelf.catalog.matcher(), Filter(kind="image").expression

        def embeddings(chosen: Filter) -> list[int] | None:
            ids = matcher.matches(chosen.expression).embeddings()
            return None if ids is None else ids.tolist()

        first = matcher.matches(images)
        assert matcher.matches(images) is first
        shelf.add("c")
        assert embeddings(Filter(kind="image")) == [1, 2, 4]
        shelf.take("a")
        assert embeddings(Filter(kind="image")) == [2, 4]
        assert embeddings(Filter(kind="text")) == []
        assert embeddings(Filter(kind={"image", "video"})) is None


def test_a_renamed_file_is_found_under_its_new_name_at_once(tmp_path: Path) -> None:
    with open_shelf(tmp_path) as shelf:
        shelf.add("a")
        matcher, named = shelf.catalog.matcher(), Filter(name="new.jpg").expression
        assert matcher.newest(named, 9) == []
        shelf.catalog.remove([b"a"])
        shelf.catalog.point({NewMedia(b"/x/new.jpg", 1, 1, "", "0"): 1})
        assert [i for i, _ in matcher.newest(named, 9)] == [1]


def test_a_catalog_without_checksums_is_read_for_every_query(tmp_path: Path) -> None:
    with open_shelf(tmp_path) as shelf:
        shelf.add("a")
        with closing(sqlite3.connect(shelf.catalog._database.file)) as connection, connection:
            connection.execute("DELETE FROM tally")
        matcher, named = shelf.catalog.matcher(), Filter(name="b.jpg").expression
        assert not matcher.matches(named).mask.any()
        with closing(sqlite3.connect(shelf.catalog._database.file)) as connection, connection:
            connection.execute("UPDATE media SET path = ?", (b"/b.jpg",))
        assert matcher.matches(named).mask.all()


def test_damaged_facts_are_unknown(tmp_path: Path) -> None:
    with open_shelf(tmp_path) as shelf:
        shelf.add("a", "b")
        shelf.catalog.put_facts({1: FileFacts(datetime(2019, 1, 1), 50.0, 14.0, "Pixel", 10, 10, 5.0), 2: FileFacts()})
        with closing(sqlite3.connect(shelf.catalog._database.file)) as connection, connection:
            connection.execute(
                "UPDATE file_facts SET taken_at='soon', latitude='x', camera=x'41', width='wide', duration_s='long'"
            )
        matcher = shelf.catalog.matcher()
        for chosen in (
            Filter(has="date"),
            Filter(has="place"),
            Filter(has="camera"),
            Filter(larger="1px"),
            Filter(longer_s=1),
        ):
            assert not matcher.matches(chosen.expression).mask.any()
        assert len(matcher.newest(Filter().expression, 9)) == 2


def test_a_content_is_shown_by_the_path_that_the_filter_holds_for(tmp_path: Path) -> None:
    with open_shelf(tmp_path) as shelf:
        names = [NewMedia(path, 1, 1, "", "0") for path in (b"/a/x.jpg", b"/b/Holidays/y.jpg", b"/c/Holidays/z.png")]
        segment = Segment({(shelf.space_id, View.VISUAL): np.eye(1, shelf.space.dim, dtype=np.float32)[0]})
        shelf.catalog.commit([NewContent(b"1", Modality.IMAGE, [segment], names)], "key")
        matcher = shelf.catalog.matcher()
        for text, path in (
            ("under:holidays", b"/b/Holidays/y.jpg"),
            ("under:holidays name:*.png", b"/c/Holidays/z.png"),
            ("under:holidays kind:image", b"/b/Holidays/y.jpg"),
            ("-under:b -under:a", b"/c/Holidays/z.png"),
            ("under:nowhere", b"/a/x.jpg"),
        ):
            assert matcher.paths(Filter.parse(text).expression, [1]) == {1: path}
        assert matcher.paths(Filter(kind="image").expression, [1]) == {}


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process can't be set here")
def test_the_clock_on_the_wall_is_the_one_of_that_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Prague")
    time.tzset()
    try:
        spring, autumn = 1_711_846_800, 1_729_990_800  # 2024-03-31 and 2024-10-27, 01:00 UTC
        seconds = np.asarray([spring - 1, spring, autumn - 1, autumn, 0, 1e9, 1e30, -1e30])
        assert local_offsets_s(seconds)[:6].tolist() == [3600, 7200, 7200, 3600, 3600, 7200]
    finally:
        monkeypatch.undo()
        time.tzset()
