"""Rot: the doctor finds every kind, an index run what changes an answer, and a repair ends as a clean library does."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import wave
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from support.media_maker import COLOURS, plain, put
from support.old_catalogs import downgrade
from support.rot import PAGE, ROT, Rot, in_file, sql, stray

import mmsearch
from indexer.executors.inline import InlineExecutor
from mmsearch import Library
from mmsearch.catalog import Catalog, NewContent, NewMedia, upkeep
from mmsearch.catalog.checking import find_faults
from mmsearch.catalog.checksums import checked
from mmsearch.catalog.schema import setting
from mmsearch.catalog.seal import NAME, copies_of, is_sealed
from mmsearch.doctor import BEFORE_REPAIR, examination, examine
from mmsearch.errors import CatalogError, LibraryError, LockedError
from mmsearch.locking import write_lock
from mmsearch.records import Origin, Segment, Text
from mmsearch.types import Modality, View

QUERIES = ("red", "green", "note 17", "a low sound")


def make_media(folder: Path) -> None:
    for number, (name, colour) in enumerate(sorted(COLOURS.items()) * 5):
        picture = plain(colour)
        picture.putpixel((number, 0), (number, 1, 2))
        folder.joinpath(f"deep{number % 3}").mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"deep{number % 3}" / f"{name}{number}.png")
    put(folder, "deep0/yellow15.txt", "the yellow one")
    put(folder, "book.txt", "\n\n".join(f"Note {number} of the {number % 7} kinds of words." for number in range(330)))
    put(folder, "broken.png", b"\x89PNG\r\n\x1a\nno picture")
    for name, hz in (("low", 110), ("high", 3_000)):
        wave_of = np.sin(np.arange(25 * 16_000) * 2 * np.pi * hz / 16_000)
        with wave.open(str(folder / f"{name}.wav"), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(16_000)
            out.writeframes((wave_of * 20_000).astype("<i2").tobytes())


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.executors.make_executor", InlineExecutor)  # no second for starting a worker


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    make_media(folder)
    return folder


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "library"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexer.executors.make_executor", InlineExecutor)
        with mmsearch.open(folder, model="hashing") as library:
            report = library.index(media)
            assert (report.added, report.failed) == (43, 1)
    return folder


@pytest.fixture(scope="module")
def expected(clean: Path) -> dict[str, Any]:
    return state_of(clean)


@pytest.fixture
def library(clean: Path, tmp_path: Path) -> Path:
    return shutil.copytree(clean, tmp_path / "library")


def state_of(folder: Path) -> dict[str, Any]:
    """Return what a library holds and answers, without ids, times of runs and random numbers."""
    tables = {
        "media": "SELECT path, size_bytes, mtime_ns, sidecars, device, hash, c.modality FROM media JOIN content AS c "
        "ON c.id = content_id ORDER BY path",
        "embedded": "SELECT hash, e.profile_id, key, resume_s FROM embedded AS e "
        "JOIN content AS c ON c.id = content_id",
        "embedding": "SELECT c.hash, s.start_s, s.end_s, s.silent, p.name, p.fingerprint, m.view, m.modality, "
        "m.draw, m.vector FROM embedding AS m JOIN segment AS s ON s.id = segment_id "
        "JOIN space AS p ON p.id = space_id JOIN content AS c ON c.id = content_id",
        "segment": "SELECT c.hash, s.start_s, s.end_s FROM segment AS s JOIN content AS c ON c.id = content_id",
        "text": "SELECT c.hash, t.origin, t.language, t.words, t.start_s, t.end_s FROM text AS t "
        "JOIN segment AS s ON s.id = segment_id JOIN content AS c ON c.id = content_id",
        "words": "SELECT t.words FROM text_words JOIN text AS t ON t.id = text_words.rowid "
        "WHERE text_words MATCH 'note OR yellow'",
        "facts": "SELECT c.hash, version, taken_at, latitude, longitude, camera, width, height, duration_s "
        "FROM file_facts AS f JOIN content AS c ON c.id = content_id",
        "failure": "SELECT path, stage, reason, stamp, version FROM failure",
        "profile": "SELECT id, name, pins, precision FROM profile",
        "space": "SELECT name, fingerprint, dim, profile_id FROM space",
        "setting": "SELECT key, value FROM setting WHERE key <> 'library'",
        "root": "SELECT path, exclude FROM root WHERE exclude != 'null'",
        "counts": "SELECT (SELECT count(*) FROM content), (SELECT count(*) FROM segment), "
        "(SELECT count(*) FROM embedding)",
    }
    with closing(sqlite3.connect(folder / "catalog.sqlite")) as connection:
        state: dict[str, Any] = {
            name: sorted(connection.execute(query).fetchall(), key=repr) for name, query in tables.items()
        }
    with Library(folder, create=False) as opened:
        for query in QUERIES:
            answer = opened.query(query, k=8, rerank=False)
            state[query] = [(hit.path, round(hit.score, 3), round(hit.confidence or 0, 2), hit.text) for hit in answer]
    return state


def examined(folder: Path, *, repair: bool = False) -> list[mmsearch.Check]:
    return examine(folder, lambda: Library(folder, create=False), repair=repair)


def test_there_are_more_than_36_kinds_of_rot() -> None:
    names = [rot.name for rot in ROT]
    assert len(names) == len(set(names)) > 36


def test_a_clean_library_passes_every_check(library: Path) -> None:
    before = {file: file.read_bytes() for file in library.rglob("*") if file.is_file()}
    checks = examined(library)
    assert [check for check in checks if not check.ok or check.repaired] == []
    assert {file: file.read_bytes() for file in library.rglob("*") if file.is_file()} == before
    assert len({check.check for check in checks}) == len(checks) >= 16


@pytest.mark.parametrize("rot", ROT, ids=lambda rot: rot.name)
def test_the_doctor_finds_every_kind_of_rot_and_changes_nothing_without_repair(rot: Rot, library: Path) -> None:
    rot.damage(library)
    before = {file: file.read_bytes() for file in library.rglob("*") if file.is_file()}
    assert not all(check.ok for check in examined(library))
    changed = {file for file, content in before.items() if not file.exists() or file.read_bytes() != content}
    assert {file.name for file in changed} <= {"catalog.sqlite-wal", "catalog.sqlite-shm"}


# What an index run mends goes the same way in a repair: of that, every third kind is enough for each day.
DAILY = [rot for number, rot in enumerate(ROT) if not rot.answers or number % 3 == 0 or "catalog" in rot.name]


@pytest.mark.parametrize("rot", ROT if os.environ.get("MMSEARCH_TORTURE") else DAILY, ids=lambda rot: rot.name)
def test_a_repair_ends_as_a_clean_library(rot: Rot, library: Path, expected: dict[str, Any]) -> None:
    rot.damage(library)
    repaired = examined(library, repair=True)
    assert [check for check in repaired if not check.ok] == []
    assert any(check.repaired for check in repaired)
    assert state_of(library) == expected


@pytest.mark.parametrize("rot", [rot for rot in ROT if rot.answers], ids=lambda rot: rot.name)
def test_an_index_run_finds_what_changes_an_answer(
    rot: Rot, library: Path, media: Path, expected: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    rot.damage(library)
    with caplog.at_level(logging.WARNING, "mmsearch"):
        try:
            with Library(library, create=False) as opened:
                opened.index(media)
        except LibraryError as error:
            assert "mmsearch doctor --repair" in str(error) or "is empty" in str(error)
            return
    assert state_of(library) == expected


def test_what_an_index_run_mends_it_says(library: Path, media: Path, caplog: pytest.LogCaptureFixture) -> None:
    sql("UPDATE embedding SET vector = zeroblob(128) WHERE view = 'visual' AND id % 2 = 0")(library)
    with Library(library, create=False) as opened:
        report = opened.index(media)
    assert report.updated == report.added + report.updated > 5
    assert "of its contents were damaged; they are embedded again" in caplog.text
    assert all(check.ok for check in examined(library))


def test_a_damaged_file_elsewhere_is_embedded_again_by_a_run_over_another_folder(
    library: Path, media: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    sql("UPDATE embedding SET vector = zeroblob(128) WHERE view = 'visual'")(library)
    put(tmp_path, "other/note.txt", "elsewhere")
    with Library(library, create=False) as opened:
        opened.index(tmp_path / "other")
        opened.forget(tmp_path / "other")
    assert state_of(library) == expected


def test_damage_of_a_file_that_is_away_is_reported_until_the_file_is_back(
    library: Path, media: Path, expected: dict[str, Any]
) -> None:
    away = media.with_name("away")
    sql("UPDATE embedding SET vector = zeroblob(128) WHERE view = 'visual'")(library)
    media.rename(away)
    try:
        checks = {check.check: check for check in examined(library, repair=True)}
        assert (checks["checksums"].ok, checks["checksums"].repaired) == (True, True)
        assert not checks["embedded"].ok
        with Library(library, create=False) as opened:
            assert opened.query("note 17", k=1)
            assert not opened.query("red", k=3, modalities="image")
    finally:
        away.rename(media)
    assert all(check.ok for check in examined(library, repair=True))
    assert state_of(library) == expected


def test_a_view_with_one_damaged_vector_still_answers(library: Path) -> None:
    for bad in ("ff7f", "007c", "0000"):  # NaN, infinity and zero in half precision
        sql(f"UPDATE embedding SET vector = CAST(unhexed AS BLOB) FROM (SELECT x'{bad * 64}' AS unhexed) WHERE id = 7")(
            library
        )
        shutil.rmtree(library / "indexes")
        with Library(library, create=False) as opened:
            hits = opened.query("red", k=3, modalities="image")
            assert [hit.path.name[:3] for hit in hits] == ["red"] * 3
            assert all(np.isfinite(hit.score) for hit in hits)


def test_a_repair_keeps_a_copy_of_the_catalog_as_it_was(library: Path) -> None:
    ROT[0].damage(library)
    before = (library / "catalog.sqlite").read_bytes()
    examined(library, repair=True)
    assert (library / BEFORE_REPAIR).read_bytes() == before


def test_a_repair_without_room_for_a_copy_changes_nothing(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ROT[0].damage(library)
    before = (library / "catalog.sqlite").read_bytes()
    full = shutil.disk_usage(library)._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    checks = {check.check: check for check in examined(library, repair=True)}
    assert not checks["disk"].ok
    assert "no room for a copy of the catalog; free " in checks["checksums"].detail
    assert (library / "catalog.sqlite").read_bytes() == before
    assert not list(library.glob(".*"))


def test_a_disk_that_fails_the_doctor_is_one_line_with_the_remedy(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(examination, "check_schema", failing)
    with pytest.raises(CatalogError, match=r"catalog.sqlite: disk I/O error; check the disk"):
        examined(library)
    monkeypatch.undo()
    ROT[0].damage(library)
    monkeypatch.setattr(examination, "mend_shape", failing)
    wrong = [check for check in examined(library, repair=True) if not check.ok]
    assert wrong
    assert all("disk I/O error; check the disk" in check.detail for check in wrong)


def test_a_check_that_fails_is_said_on_stderr_with_json_too(library: Path, run: Run) -> None:
    ROT[0].damage(library)
    said = run("doctor", "--json", "--library", library)
    assert said.returncode == 2
    assert said.stderr.splitlines()[-1].endswith("failed; 'mmsearch doctor --repair' mends what can be mended")
    assert [json.loads(line)["ok"] for line in said.stdout.splitlines()].count(False) > 0


def test_nothing_of_the_users_is_touched_by_a_repair(library: Path, tmp_path: Path) -> None:
    canaries = [put(tmp_path, f"mine/{name}", "mine") for name in ("a.faiss.tmp", ".manifest.json.12", "b.txt")]
    (library / "holiday.txt").write_text("mine")
    (library / "indexes" / "link").symlink_to(tmp_path / "mine")
    stray(library)
    ROT[0].damage(library)
    checks = {check.check: check for check in examined(library, repair=True)}
    assert all(file.read_text() == "mine" for file in canaries)
    assert (library / "holiday.txt").read_text() == "mine"
    assert "holiday.txt" in checks["foreign files"].detail
    assert not checks["links"].ok
    assert checks["strays"].repaired


def test_a_repair_waits_for_no_other_writer(library: Path) -> None:
    with write_lock(library):
        assert "is writing to" in {check.check: check.detail for check in examined(library)}["lock"]
        with pytest.raises(LockedError):
            examined(library, repair=True)


def test_the_command_says_what_is_wrong_and_what_it_mended(run: Run, library: Path, tmp_path: Path) -> None:
    assert run("doctor", library=library).returncode == 0
    sql("UPDATE failure SET reason = 'none'")(library)
    found = run("doctor", "--json", library=library)
    lines = {line["check"]: line for line in map(json.loads, found.stdout.splitlines())}
    assert (found.returncode, lines["checksums"]["ok"], lines["checksums"]["repaired"]) == (2, False, False)
    mended = run("doctor", "--repair", library=library)
    assert mended.returncode == 0, mended.stderr
    assert "mended  checksums" in mended.stdout
    missing = run("doctor", library=tmp_path / "none")
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)


def test_python_examines_an_open_library(library: Path) -> None:
    with Library(library, create=False) as opened:
        opened.query("red")
        in_file("catalog.sqlite", lambda content: bytes(PAGE) + content[PAGE:])(library)
        assert not all(check.ok for check in opened.doctor())
        assert all(check.ok for check in opened.doctor(repair=True))
        assert opened.query("red", k=1)[0].path.name.startswith("red")


def test_the_parts_of_a_content_add_up_to_its_checksum(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.sqlite", create=True)
    catalog.set_profile("hashing", ["hashing"])
    space = catalog.add_space("hashing", "hashing-1", 8)
    name = NewMedia(b"/film.mp4", 1, 1, "", "0")

    def part(from_s: float, resume_s: float | None) -> NewContent:
        words = (Text(Origin.SUBTITLE, f"words at {from_s}"),)
        pieces = [Segment({(space, View.VISUAL): np.eye(8)[i]}, from_s + i, from_s + i + 1, words) for i in range(3)]
        return NewContent(b"hash", Modality.VIDEO, pieces, [name], from_s, resume_s)

    catalog.commit([part(0, 60)], "key")
    catalog.commit([part(60, 120)], "key")
    catalog.commit([part(120, 180), part(180, None)], "key")
    assert not find_faults(catalog.file)
    catalog.commit([part(0, 30), part(30, None)], "another")
    assert not find_faults(catalog.file)
    catalog.close()


def test_an_older_catalog_has_its_checksums_recorded_by_the_next_run(library: Path, media: Path) -> None:
    downgrade(library / "catalog.sqlite", 3)
    (library / NAME).unlink()
    checks = {check.check: check for check in examined(library)}
    assert all(check.ok for check in checks.values())
    assert "not recorded yet" in checks["checksums"].detail
    with Library(library, create=False) as opened:
        opened.index(media)
    assert {check.check: check for check in examined(library)}["checksums"].detail == "every row is as it was written"
    sql("UPDATE text SET words = 'x' WHERE id = 3")(library)
    assert not all(check.ok for check in examined(library))


def test_a_run_reads_no_row_of_a_sealed_catalog(library: Path, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "find_faults", lambda _: pytest.fail("it was read"))
    with Library(library, create=False) as opened:
        assert opened.index(media).added == 0
        opened.index(media)


def test_forgetting_seals_no_damage(library: Path, media: Path) -> None:
    ROT[0].damage(library)
    with Library(library, create=False) as opened:
        opened.forget(media / "high.wav")
        assert not is_sealed(library / "catalog.sqlite")


@pytest.mark.parametrize(
    "copies",
    [
        5,
        [],
        {"setting": 5},
        {"setting": {"key": "profile"}},
        {"setting": [5, None, [], {}, {"key": "profile"}]},
        {"setting": [{"key": ["profile"], "value": {}, "checksum": 1}]},
        {"root": [{"id": 2**70, "path": "/", "exclude": "[]", "checksum": 1}]},
    ],
    ids=str,
)
def test_odd_copies_in_a_seal_are_no_copies(library: Path, copies: object) -> None:
    seal = library / NAME
    seal.write_text(json.dumps({**json.loads(seal.read_bytes()), "copies": copies}))
    assert copies_of(library / "catalog.sqlite") == {}


def test_copies_of_other_types_than_their_columns_are_no_copies(library: Path) -> None:
    seal = library / NAME
    for value in (5, None, "\ud800", [1]):
        row = checked(setting, {"key": "profile", "value": value})
        seal.write_text(json.dumps({**json.loads(seal.read_bytes()), "copies": {"setting": [row]}}))
        assert copies_of(library / "catalog.sqlite") == {}


def test_a_repair_goes_on_without_odd_copies(library: Path) -> None:
    sql("UPDATE setting SET value = '7' WHERE key = 'library'")(library)
    (library / NAME).write_text(json.dumps({"format": 1, "copies": {"setting": 5, "profile": [5]}}))
    examined(library, repair=True)
