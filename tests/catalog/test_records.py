"""Records: one class of segments, with its texts, from decoding to a hit; older catalogs get texts with an origin."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.media_maker import encoded, plain, put
from support.old_catalogs import downgrade

from mmsearch.catalog import Catalog, NewContent, NewMedia, schema
from mmsearch.catalog.checking import find_faults
from mmsearch.catalog.checksums import segment_checksum, text_checksum
from mmsearch.catalog.facts import facts_of
from mmsearch.catalog.rows import NewSegment
from mmsearch.catalog.salvage import salvage
from mmsearch.errors import CatalogError
from mmsearch.media import DecodeOptions, decode
from mmsearch.records import DatedBy, FileFacts, Origin, Segment, Text
from mmsearch.settings import Limits
from mmsearch.types import Modality, View

RED = (200, 20, 20)
RATE = 16_000
OLD_WORDS = {
    "/n.txt": ("passage", "an old lighthouse"),
    "/p.jpg": ("caption", "a boat at sea"),
    "/c.mp4": ("subtitle", "hello there"),
    "/whole.mp4": ("caption", "our holidays"),
    "/s.wav": ("subtitle", "a song about boats"),
}
FACTS = FileFacts(
    datetime(2019, 6, 1, 12, 30, tzinfo=UTC), 50.1, 14.4, "Maker Model", 640, 480, None,
    DatedBy.SIDECAR, "Praha", "50mm", -1, ("goose", "Gänse"), ("Anna",),
)  # fmt: skip


def vector(seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(8)
    return np.asarray(drawn / np.linalg.norm(drawn), np.float32)


def content(path: str, modality: Modality, *segments: NewSegment, facts: FileFacts | None = None) -> NewContent:
    names = [NewMedia(os.fsencode(path), 1, 1, "", "1")]
    return NewContent(os.fsencode(path), modality, segments, names, facts=facts)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A catalog of one segment with a text for each kind of file, and one picture without."""
    with closing(Catalog(tmp_path / "catalog.sqlite", create=True)) as held:
        held.set_profile("mini", ["mini"])
        space = held.add_space("mini", "f1", 8)

        def segment(path: str, *views: View, start_s: float | None = None) -> NewSegment:
            origin, words = OLD_WORDS[path]
            vectors = {(space, view): vector(len(path) + n) for n, view in enumerate(views)}
            return Segment(vectors, start_s, start_s, (Text(Origin(origin), words),))

        held.commit(
            [
                content("/n.txt", Modality.TEXT, segment("/n.txt", View.TEXT)),
                content("/p.jpg", Modality.IMAGE, segment("/p.jpg", View.VISUAL, View.TEXT), facts=FACTS),
                content("/c.mp4", Modality.VIDEO, segment("/c.mp4", View.VISUAL, View.TEXT, start_s=2.0)),
                content("/whole.mp4", Modality.VIDEO, segment("/whole.mp4", View.TEXT, start_s=0.0)),
                content("/s.wav", Modality.AUDIO, segment("/s.wav", View.AUDIO, View.TEXT, start_s=0.0)),
                content("/plain.jpg", Modality.IMAGE, Segment({(space, View.VISUAL): vector(99)})),
            ],
            "key",
        )
    return file_of(tmp_path)


def file_of(folder: Path) -> Path:
    return folder / "catalog.sqlite"


def asked(file: Path, *statements: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        rows = [row for statement in statements for row in connection.execute(statement).fetchall()]
        connection.commit()
        return rows


def origins(file: Path) -> dict[str, tuple[str, str]]:
    query = (
        "SELECT path, origin, words FROM text AS t JOIN segment AS s ON s.id = segment_id "
        "JOIN media AS m ON m.content_id = s.content_id"
    )
    found = {}
    for path, origin, words in asked(file, query):
        assert isinstance(path, bytes)
        found[os.fsdecode(path)] = (str(origin), str(words))
    return found


def matches(file: Path, words: str) -> list[str]:
    query = f"SELECT t.words FROM text_words JOIN text AS t ON t.id = text_words.rowid WHERE text_words MATCH '{words}'"
    return sorted(str(row[0]) for row in asked(file, query))


def test_the_fields_of_records_are_the_columns_of_their_tables() -> None:
    own = {field.name for field in fields(Segment)} - {"views", "texts"}
    assert own == {c.name for c in schema.segment.columns} - {"id", "content_id", "profile_id"}
    known = {field.name for field in fields(FileFacts)}
    assert known == {c.name for c in schema.file_facts.columns} - {"id", "content_id", "version", "checksum"}


def test_a_column_that_is_null_or_false_changes_no_checksum() -> None:
    row = {column.name: None for column in schema.segment.columns} | {"id": 1, "content_id": 2, "profile_id": 1}
    assert segment_checksum(row | {"silent": False}) == segment_checksum(row | {"silent": 0})
    assert segment_checksum(row | {"silent": 1}) != segment_checksum(row | {"silent": 0})
    assert segment_checksum(row | {"silent": 0, "start_s": 5}) == segment_checksum(row | {"silent": 0, "start_s": 5.0})
    assert segment_checksum(row | {"silent": 0, "start_s": 5}) != segment_checksum(row | {"silent": 0, "end_s": 5})
    words = {column.name: "x" for column in schema.text.columns} | {"start_s": None, "end_s": None}
    assert text_checksum(words) != text_checksum(words | {"language": "y"})


def test_a_text_has_the_origin_that_decoding_knows(tmp_path: Path) -> None:
    put(tmp_path, "red.jpg", encoded(plain(RED), "JPEG"))
    put(tmp_path, "red.txt", "a red wall")
    put(tmp_path, "note.md", "An old lighthouse.")
    soundfile.write(tmp_path / "song.wav", np.sin(np.arange(4 * RATE) / 10), RATE)
    put(tmp_path, "song.de.srt", "1\n00:00:01,000 --> 00:00:02,000\nHallo\n")
    options = DecodeOptions(Limits(), 64, 32, len, RATE)

    def texts(name: str, *beside: str) -> list[Text]:
        at = [os.fsencode(tmp_path / one) for one in (name, *beside)]
        return [text for segment in decode(at[0], at[1:], options).segments for text in segment.texts]

    assert texts("red.jpg", "red.txt") == [Text(Origin.CAPTION, "a red wall")]
    assert texts("note.md") == [Text(Origin.PASSAGE, "An old lighthouse.")]
    assert texts("song.wav", "song.de.srt") == [Text(Origin.SUBTITLE, "Hallo", "de", (1.0, 2.0))]


def test_texts_come_back_as_they_were_written_and_in_their_order(tmp_path: Path) -> None:
    texts = (
        Text(Origin.SUBTITLE, "a castle", "en", (0.5, 2.25)),
        Text(Origin.SUBTITLE, "ein Schloß", "de", (0.0, 2.0)),
        Text(Origin.OCR, "EXIT"),
        Text(Origin.GENERATED, "half of a pair \udc80"),
    )
    with closing(Catalog(tmp_path / "catalog.sqlite", create=True)) as held:
        held.commit([content("/a.mp4", Modality.VIDEO, Segment({}, 0, 3, texts), Segment({}, 3, 6))], "key")
        assert held.texts_of([1, 2]) == {1: (*texts[:3], Text(Origin.GENERATED, "half of a pair \\udc80"))}


def test_the_full_text_index_follows_every_change(file: Path) -> None:
    assert matches(file, "boat*") == ["a boat at sea", "a song about boats"]
    with closing(Catalog(file)) as held:
        again: NewSegment = Segment({}, texts=(Text(Origin.CAPTION, "Tři čluny"),))
        held.commit([content("/p.jpg", Modality.IMAGE, again)], "key")
        assert (matches(file, "boat*"), matches(file, "cluny")) == (["a song about boats"], ["Tři čluny"])
        other = held.beside(held.begin_change("standard", ["x"]))
        other.add_space("mini", "f1", 8)
        pages = [content for page in held.stored() for content in page]
        other.copy_in([one for one in pages if one.path == b"/p.jpg"], "new")
        assert matches(file, "cluny") == ["Tři čluny"] * 2
        held.cancel_change(other.profile_id)
        assert matches(file, "cluny") == ["Tři čluny"]
        held.remove([b"/p.jpg", b"/s.wav"])
        held.drop_orphans()
        assert (matches(file, "cluny"), matches(file, "boat*")) == ([], [])
        assert not find_faults(file)


def test_the_facts_of_a_file_come_back_and_go_with_its_content(file: Path) -> None:
    names = [field.name for field in fields(FileFacts)]
    query = f"SELECT {', '.join(names)} FROM file_facts"
    (row,) = asked(file, query)
    assert facts_of(dict(zip(names, row, strict=True))) == FACTS
    with closing(Catalog(file)) as held:
        held.remove([b"/p.jpg"])
        held.drop_orphans()
        assert not find_faults(file)
    assert asked(file, query) == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE file_facts SET camera = 'another'",
        "UPDATE file_facts SET lens = NULL",
        "UPDATE file_facts SET keywords = '[]'",
        "DELETE FROM file_facts",
        "UPDATE file_facts SET latitude = NULL",
    ],
)
def test_damaged_facts_are_found(file: Path, damage: str) -> None:
    assert not find_faults(file)
    asked(file, damage)
    assert find_faults(file)


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_an_older_catalog_gets_texts_with_an_origin(file: Path, version: int) -> None:
    downgrade(file, version)
    Catalog(file).close()
    assert origins(file) == OLD_WORDS
    assert matches(file, "boat*") == ["a boat at sea", "a song about boats"]
    faults = find_faults(file)
    assert not faults
    assert faults.unrecorded is (version < 4)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE segment SET text = text || '!' WHERE text IS NOT NULL",
        "UPDATE segment SET text = CAST(x'4e6f7465ff' AS TEXT) WHERE id = 2",
        "UPDATE segment SET text = NULL WHERE id = 3",
        "UPDATE segment SET text = 'one more' WHERE text IS NULL",
        "UPDATE segment SET silent = 1 WHERE id = 5",
        "UPDATE segment SET start_s = 'x' WHERE id = 5",
        "UPDATE embedded SET checksum = checksum / 2 WHERE id = 6",
    ],
)
def test_what_was_damaged_in_an_older_catalog_is_still_found_afterwards(file: Path, damage: str) -> None:
    downgrade(file, 4)
    asked(file, damage)
    Catalog(file).close()
    assert find_faults(file).contents


def test_a_catalog_of_schema_4_that_cannot_be_opened_is_saved_with_its_texts(file: Path) -> None:
    downgrade(file, 4)
    asked(file, "ALTER TABLE failure RENAME TO lost")
    with pytest.raises(CatalogError):
        Catalog(file)
    salvage(file)
    assert origins(file) == OLD_WORDS
    assert matches(file, "boat*") == ["a boat at sea", "a song about boats"]
    faults = find_faults(file)
    assert (faults.contents, faults.rows, faults.dangling, faults.full_text) == (set(), {}, {}, False)
