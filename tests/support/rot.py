"""Kinds of rot: what a disk, a cable, a crash or another program may do to a library that nobody is writing to.

Each kind is a function that damages a closed library. `ROT` holds them by name; `make torture` runs them as well.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Damage = Callable[[Path], None]
PAGE = 16_384


@dataclass(frozen=True, slots=True)
class Rot:
    """One kind of rot; `answers` says whether it changes what a query answers, so that an index run has to find it."""

    name: str
    damage: Damage
    answers: bool = True


def sql(*statements: str) -> Damage:
    """Change rows behind the program's back. References aren't kept whole: no disk does that."""

    def damage(library: Path) -> None:
        with closing(sqlite3.connect(library / "catalog.sqlite")) as connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            for statement in statements:
                changed = connection.execute(statement).rowcount
                assert changed or not statement.startswith(("UPDATE", "DELETE", "INSERT")), statement
            connection.commit()

    return damage


def vector(change: Callable[[np.ndarray], np.ndarray], where: str = "view = 'visual'") -> Damage:
    """Change the vector of the third embedding of a kind."""

    def damage(library: Path) -> None:
        with closing(sqlite3.connect(library / "catalog.sqlite")) as connection:
            query = f"SELECT id, vector FROM embedding WHERE {where} ORDER BY id LIMIT 1 OFFSET 2"
            number, blob = connection.execute(query).fetchone()
            changed = change(np.frombuffer(blob, "<f2").copy()).astype("<f2").tobytes()
            assert changed != blob
            connection.execute("UPDATE embedding SET vector = ? WHERE id = ?", (changed, number))
            connection.commit()

    return damage


def flipped_bit(halves: np.ndarray) -> np.ndarray:
    raw = halves.view("<u2")
    raw[7] ^= 1 << 9
    return halves


def filled(value: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda halves: np.full_like(halves, value)


def in_file(pattern: str, change: Callable[[bytearray], bytearray | bytes]) -> Damage:
    """Change the bytes of the first file of the library that matches a pattern."""

    def damage(library: Path) -> None:
        file = sorted(library.glob(pattern))[0]
        before = file.read_bytes()
        after = bytes(change(bytearray(before)))
        assert after != before
        file.write_bytes(after)

    return damage


def flip_in_the_middle(content: bytearray) -> bytearray:
    content[len(content) // 2] ^= 16
    return content


def flip_at_the_end(content: bytearray) -> bytearray:
    content[-40] ^= 16
    return content


def cut_in_half(content: bytearray) -> bytearray:
    return content[: len(content) // 2]


def _pages_of(library: Path, name: str) -> list[int]:
    """Return the numbers of the pages of a table or index, by walking its b-tree from its root."""
    file = library / "catalog.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
    content, found, left = file.read_bytes(), [], [root]
    while left:
        number = left.pop()
        found.append(number)
        page = content[(number - 1) * PAGE : number * PAGE]
        if page[0] in (2, 5):  # an inner page of an index or a table: the pages below it
            count = int.from_bytes(page[3:5])
            cells = [int.from_bytes(page[12 + 2 * i : 14 + 2 * i]) for i in range(count)]
            left += [int.from_bytes(page[8:12]), *(int.from_bytes(page[at : at + 4]) for at in cells)]
    return found


def _write_page(library: Path, number: int, page: bytes) -> None:
    with (library / "catalog.sqlite").open("r+b") as file:
        file.seek((number - 1) * PAGE)
        file.write(page)


def zeroed_page(name: str) -> Damage:
    """Overwrite the last page of a table or an index with zeros."""
    return lambda library: _write_page(library, _pages_of(library, name)[-1], bytes(PAGE))


def stale_page(name: str, change: str) -> Damage:
    """Bring a page of a table back to what it was before a change: a write that the disk has lost."""

    def damage(library: Path) -> None:
        number = _pages_of(library, name)[-1]
        file = library / "catalog.sqlite"
        now = file.read_bytes()[(number - 1) * PAGE : number * PAGE]
        shutil.copytree(library, library.with_name(f"{library.name}-before"))
        sql(change)(library.with_name(f"{library.name}-before"))
        _pages_of(library.with_name(f"{library.name}-before"), name)  # brings what was written into the file
        before = library.with_name(f"{library.name}-before") / "catalog.sqlite"
        page = before.read_bytes()[(number - 1) * PAGE : number * PAGE]
        assert page != now
        _write_page(library, number, page)

    return damage


def swapped_pages(name: str) -> Damage:
    """Let two pages of a table change places."""

    def damage(library: Path) -> None:
        first, second = _pages_of(library, name)[1:3]
        content = (library / "catalog.sqlite").read_bytes()
        _write_page(library, first, content[(second - 1) * PAGE : second * PAGE])
        _write_page(library, second, content[(first - 1) * PAGE : first * PAGE])

    return damage


def swapped_generations(library: Path) -> None:
    """Put the index of one view in the place of another's, manifest and all: whole, and of other vectors."""
    first, second = (next(library.glob(f"indexes/*/*/{view}")) for view in ("visual", "text"))
    for file in second.iterdir():
        file.unlink()
    for file in first.iterdir():
        shutil.copy(file, second / file.name)


def lost_manifest(library: Path) -> None:
    next(library.glob("indexes/*/*/visual/manifest.json")).write_bytes(b"{")


def stray(library: Path) -> None:
    next(library.glob("indexes/*/*/visual")).joinpath("base-000009-000.faiss.tmp").write_bytes(b"half")


THIRD = "(SELECT id FROM {0} ORDER BY id LIMIT 1 OFFSET 2)"
_MEDIA, _CONTENT, _SEGMENT = THIRD.format("media"), THIRD.format("content"), THIRD.format("segment")
_EMBEDDING = THIRD.format("embedding")
_PICTURE = "(SELECT id FROM embedding WHERE view = 'visual' ORDER BY id LIMIT 1 OFFSET 2)"
_NOTE = "(SELECT id FROM segment WHERE id IN (SELECT segment_id FROM text) ORDER BY id LIMIT 1 OFFSET 2)"
_WORDS = THIRD.format("text")

ROT = [
    Rot("a bit of a vector", vector(flipped_bit)),
    Rot("a vector of NaN", vector(filled(np.nan))),
    Rot("a vector of infinities", vector(filled(np.inf))),
    Rot("a vector of zeros", vector(filled(0.0))),
    Rot("a vector that is too long", vector(lambda halves: halves * 30)),
    Rot("a vector that points the other way", vector(np.negative)),
    Rot("a vector cut short", vector(lambda halves: halves[:-1])),
    Rot("a vector that is empty", vector(lambda halves: halves[:0])),
    Rot("a vector of a text", vector(flipped_bit, "view = 'text'")),
    Rot("another's vector", vector(lambda _: np.eye(64)[3])),
    Rot("a view that there is none of", sql(f"UPDATE embedding SET view = 'sight' WHERE id = {_PICTURE}")),
    Rot("another view", sql(f"UPDATE embedding SET view = 'audio' WHERE id = {_PICTURE}")),
    Rot("another kind of an embedding", sql(f"UPDATE embedding SET modality = 'video' WHERE id = {_PICTURE}")),
    Rot("another place in the sample", sql(f"UPDATE embedding SET draw = draw + 8 WHERE id = {_PICTURE}"), False),
    Rot("a space that isn't there", sql(f"UPDATE embedding SET space_id = 77 WHERE id = {_PICTURE}")),
    Rot("another segment", sql(f"UPDATE embedding SET segment_id = segment_id + 1 WHERE id = {_PICTURE}")),
    Rot("another id of an embedding", sql(f"UPDATE embedding SET id = id + 100000 WHERE id = {_PICTURE}")),
    Rot("an embedding lost", sql(f"DELETE FROM embedding WHERE id = {_PICTURE}")),
    Rot(
        "an embedding twice",
        sql(
            "INSERT INTO embedding (segment_id, space_id, view, modality, draw, vector) "
            f"SELECT segment_id, space_id, view, modality, draw, vector FROM embedding WHERE id = {_PICTURE}"
        ),
    ),
    Rot("another text", sql(f"UPDATE text SET words = words || '!' WHERE id = {_WORDS}")),
    Rot("a text that isn't UTF-8", sql(f"UPDATE text SET words = CAST(x'4e6f7465ff' AS TEXT) WHERE id = {_WORDS}")),
    Rot("a text lost", sql(f"DELETE FROM text WHERE id = {_WORDS}")),
    Rot(
        "a text twice",
        sql(
            "INSERT INTO text (segment_id, origin, language, words) "
            f"SELECT segment_id, origin, language, words FROM text WHERE id = {_WORDS}"
        ),
        False,
    ),
    Rot("a text of another segment", sql(f"UPDATE text SET segment_id = segment_id + 1 WHERE id = {_WORDS}")),
    Rot("a text of no segment", sql(f"UPDATE text SET segment_id = 999999 WHERE id = {_WORDS}")),
    Rot("another origin", sql(f"UPDATE text SET origin = 'ocr' WHERE id = {_WORDS}"), False),
    Rot("an origin that there is none of", sql(f"UPDATE text SET origin = 'dream' WHERE id = {_WORDS}")),
    Rot("another id of a text", sql(f"UPDATE text SET id = id + 100000 WHERE id = {_WORDS}"), False),
    Rot(
        "a text that the full-text index lacks",
        sql(
            "INSERT INTO text_words (text_words, rowid, words) "
            f"SELECT 'delete', id, words FROM text WHERE id = {_WORDS}"
        ),
        False,
    ),
    Rot(
        "a text too many in the full-text index",
        sql("INSERT INTO text_words (rowid, words) VALUES (999999, 'none')"),
        False,
    ),
    Rot("the full-text index emptied", sql("DELETE FROM text_words_data"), False),
    Rot("a table of the full-text index lost", sql("DROP TABLE text_words_docsize"), False),
    Rot("the full-text index lost", sql("DROP TABLE text_words"), False),
    Rot("a page of texts zeroed", zeroed_page("text")),
    Rot("a page of the full-text index zeroed", zeroed_page("text_words_data"), False),
    Rot("another camera", sql("UPDATE file_facts SET camera = 'x' WHERE id = 3"), False),
    Rot("another width", sql("UPDATE file_facts SET width = width + 1 WHERE id = 3"), False),
    Rot("facts lost", sql("DELETE FROM file_facts WHERE id = 3"), False),
    Rot("facts of no content", sql("UPDATE file_facts SET content_id = 999999 WHERE id = 3"), False),
    Rot("another moment", sql("UPDATE segment SET start_s = start_s + 1 WHERE start_s IS NOT NULL")),
    Rot("a sound that falls silent", sql("UPDATE segment SET silent = 1 WHERE start_s IS NOT NULL")),
    Rot("a segment lost", sql(f"DELETE FROM segment WHERE id = {_NOTE}")),
    Rot("a segment of another content", sql(f"UPDATE segment SET content_id = content_id + 1 WHERE id = {_SEGMENT}")),
    Rot("another hash", sql(f"UPDATE content SET hash = zeroblob(16) WHERE id = {_CONTENT}"), False),
    Rot("a hash that is a text", sql(f"UPDATE content SET hash = CAST(hash AS TEXT) WHERE id = {_CONTENT}"), False),
    Rot("another kind of a content", sql(f"UPDATE content SET modality = 'video' WHERE id = {_CONTENT}")),
    Rot("a kind that there is none of", sql(f"UPDATE content SET modality = 'smell' WHERE id = {_CONTENT}")),
    Rot("a content lost", sql(f"DELETE FROM content WHERE id = {_CONTENT}")),
    Rot("another path", sql(f"UPDATE media SET path = path || x'21' WHERE id = {_MEDIA}")),
    Rot("a path of another content", sql(f"UPDATE media SET content_id = content_id + 1 WHERE id = {_MEDIA}")),
    Rot("a path of no content", sql(f"UPDATE media SET content_id = 999999 WHERE id = {_MEDIA}")),
    Rot("another time of a file", sql(f"UPDATE media SET mtime_ns = mtime_ns + 1 WHERE id = {_MEDIA}"), False),
    Rot("a path lost", sql(f"DELETE FROM media WHERE id = {_MEDIA}")),
    Rot("all paths lost", sql("DELETE FROM media")),
    Rot("the mark of a content lost", sql(f"DELETE FROM embedded WHERE content_id = {_CONTENT}"), False),
    Rot("another mark", sql(f"UPDATE embedded SET key = key || '!' WHERE content_id = {_CONTENT}"), False),
    Rot(
        "a content that isn't at its end", sql(f"UPDATE embedded SET resume_s = 3 WHERE content_id = {_CONTENT}"), False
    ),
    Rot("another checksum", sql(f"UPDATE embedded SET checksum = checksum / 2 WHERE content_id = {_CONTENT}"), False),
    Rot("another name of the model", sql("UPDATE profile SET name = 'hasching'"), False),
    Rot("another pin", sql("UPDATE profile SET pins = '[\"mini\"]'")),
    Rot("a pin that is none", sql("UPDATE profile SET pins = '[\"hash'")),
    Rot("the model lost", sql("DELETE FROM profile")),
    Rot("another fingerprint", sql("UPDATE space SET fingerprint = 'hashing-3'")),
    Rot("another dimension", sql("UPDATE space SET dim = 60")),
    Rot("a space lost", sql("DELETE FROM space")),
    Rot("another profile answers", sql("UPDATE setting SET value = '5' WHERE key = 'profile'")),
    Rot("no profile answers", sql("DELETE FROM setting WHERE key = 'profile'")),
    Rot("another revision", sql("UPDATE revision SET token = token + 1"), False),
    Rot("another failure", sql("UPDATE failure SET reason = 'none'"), False),
    Rot("a failure lost", sql("DELETE FROM failure"), False),
    Rot("another report of a run", sql("UPDATE run SET report = '{}'"), False),
    Rot("another root", sql("UPDATE root SET path = path || x'21'"), False),
    Rot("the roots lost", sql("DELETE FROM root"), False),
    Rot("another tally", sql("UPDATE tally SET rows = rows + 1 WHERE name = 'media'"), False),
    Rot("a search tree dropped", sql("DROP INDEX ix_media_content_id"), False),
    Rot("a trigger", sql("CREATE TRIGGER t AFTER DELETE ON media BEGIN DELETE FROM failure; END"), False),
    Rot("a table lost", sql("DROP TABLE segment")),
    Rot("another schema version", sql("PRAGMA user_version = 3"), False),
    Rot("a page of vectors zeroed", zeroed_page("embedding")),
    Rot("a page of segments zeroed", zeroed_page("segment")),
    Rot("a page of a search tree zeroed", zeroed_page("embedding_by_view")),
    Rot("a page of the paths' tree zeroed", zeroed_page("sqlite_autoindex_media_1")),
    Rot("a stale page of vectors", stale_page("embedding", "UPDATE embedding SET draw = draw - 1")),
    Rot("a stale page of paths", stale_page("media", "UPDATE media SET size_bytes = size_bytes - 1"), False),
    Rot("two pages of vectors swapped", swapped_pages("embedding")),
    Rot("the first page zeroed", in_file("catalog.sqlite", lambda content: bytes(PAGE) + content[PAGE:])),
    Rot("the catalog cut in half", in_file("catalog.sqlite", cut_in_half)),
    Rot("the catalog emptied", in_file("catalog.sqlite", lambda _: b"")),
    Rot("the catalog overwritten", in_file("catalog.sqlite", lambda content: b"\x55" * len(content))),
    Rot("a bit in the middle of an index", in_file("indexes/*/*/visual/base*.faiss", flip_in_the_middle)),
    Rot("a bit at the end of an index", in_file("indexes/*/*/text/base*.faiss", flip_at_the_end)),
    Rot("an index cut in half", in_file("indexes/*/*/visual/base*.faiss", cut_in_half)),
    Rot("an index of other vectors", swapped_generations, False),  # no byte of it has changed: somebody copied it
    Rot("a manifest lost", lost_manifest),
    Rot("a bit of the calibration", in_file("indexes/*/*/text.bank.npz", flip_in_the_middle), False),
    Rot("a stray of a killed process", stray, False),
]
