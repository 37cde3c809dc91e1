"""Indexes that were damaged, crafted or changed while open: they are rebuilt, and FAISS never reads them."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from mmsearch.errors import DamagedIndexError
from mmsearch.vectors import ExactIndex, FaissIndex, IndexStore, VectorIndex, bitmap, follow, generation, in_memory
from mmsearch.vectors.checksum import BLOCK, checksum
from mmsearch.vectors.faiss_index import codes_of
from mmsearch.vectors.generation import write_generation
from mmsearch.vectors.manifest import MOST_BYTES, MOST_SERIAL

Ids = NDArray[np.int64]
Rows = NDArray[np.float32]
DIM = 16
TABLE: Rows = np.random.default_rng(0).standard_normal((3_000, DIM)).astype(np.float16).astype(np.float32)
HEADER = 118
NOTHING = FaissIndex(DIM, [], np.empty(0, np.int64))


def span(start: int, stop: int) -> Ids:
    return np.arange(start, stop, dtype=np.int64)


def fetch(ids: Ids) -> tuple[Ids, Rows]:
    return ids, TABLE[ids]


@pytest.fixture(params=[2**23, 0], ids=["in memory", "mapped"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read into memory, or mapped as large ones are."""
    monkeypatch.setattr(generation, "IN_MEMORY_BYTES", request.param)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """The folder of an index of a base, a delta and deleted ids, for 4 to 104 at revision 3."""
    folder = tmp_path / "index"
    store = IndexStore(folder, DIM)
    for revision, live in enumerate((span(1, 101), span(1, 105), span(4, 105)), 1):
        store.catch_up(live, revision, fetch)
    return folder


def one(folder: Path, pattern: str) -> Path:
    (file,) = folder.glob(pattern)
    return file


def manifest_of(folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    return fields


def put_manifest(folder: Path, fields: object) -> None:
    (folder / "manifest.json").write_text(json.dumps(fields), "utf-8")


def sign(folder: Path, pattern: str) -> None:
    """Give a file that was tampered with the checksum and the count that its manifest asks for, as an attacker can."""
    file, fields = one(folder, pattern), manifest_of(folder)
    content = file.read_bytes()
    for stored in fields["generations"]:
        if stored["name"] == file.name:
            codes_end = len(content) - 8 * stored["count"] - 8
            stored["check"] = checksum(content[:HEADER], content[HEADER:codes_end], content[codes_end:])
    put_manifest(folder, fields)


def assert_rebuilt(folder: Path) -> None:
    """The index isn't opened, and the next run makes it anew."""
    assert IndexStore(folder, DIM).open() is None
    index = IndexStore(folder, DIM).catch_up(span(4, 105), 4, fetch)
    np.testing.assert_array_equal(index.ids(), span(4, 105))
    assert IndexStore(folder, DIM).verify(span(4, 105), 4, fetch) == []


# What is written


def test_a_generation_is_what_faiss_itself_would_have_written(tmp_path: Path) -> None:
    ids = span(7, 1_007)
    parts = [(ids[:300], TABLE[ids[:300]]), (ids[300:], TABLE[ids[300:]])]
    count, _ = write_generation(tmp_path / "ours", DIM, parts)
    quantizer = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexIDMap(quantizer)
    index.add_with_ids(TABLE[ids], ids)
    faiss.write_index(index, str(tmp_path / "theirs"))
    assert count == 1_000
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.usefixtures("either_way")
def test_vectors_that_are_not_finite_are_left_out_and_the_others_found(tmp_path: Path) -> None:
    table = TABLE.copy()
    table[[3, 9]], table[5, 2], table[7, 0] = np.nan, np.inf, 1e6  # the last is infinite in float16
    live = span(1, 50)
    store = IndexStore(tmp_path, DIM)
    index = store.catch_up(live, 1, lambda ids: (ids, table[ids]))
    expected = np.setdiff1d(live, [3, 5, 7, 9])
    np.testing.assert_array_equal(index.ids(), expected)
    np.testing.assert_array_equal(np.sort(index.search(TABLE[:1], 60)[1][0, : len(expected)]), expected)
    assert store.verify(live, 1, lambda ids: (ids, table[ids])) == []
    again = store.catch_up(live, 2, lambda ids: (ids, table[ids]))
    np.testing.assert_array_equal(again.ids(), expected)
    assert [file.name for file in tmp_path.glob("*.tmp")] == []


def test_a_link_in_the_place_of_a_new_file_is_not_written_through(tmp_path: Path) -> None:
    own = tmp_path / "thesis.txt"
    own.write_text("a year's work")
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("base-000001-000.faiss.tmp", f".manifest.json.{os.getpid()}", "manifest.json"):
        (folder / name).symlink_to(own)
    IndexStore(folder, DIM).catch_up(span(1, 9), 1, fetch)
    assert own.read_text() == "a year's work"
    assert IndexStore(folder, DIM).open() is not None


# Checksums


def test_every_flipped_bit_and_every_pair_of_swapped_sectors_changes_the_checksum() -> None:
    content = bytearray(np.random.default_rng(2).bytes(2 * BLOCK + 777))
    check, draw = checksum(bytes(content)), np.random.default_rng(3)
    for at in (0, HEADER, BLOCK - 1, BLOCK, len(content) - 1, *draw.integers(0, len(content), 10).tolist()):
        content[at] ^= 0x04
        assert checksum(bytes(content)) != check
        content[at] ^= 0x04
    for one_at, other_at in draw.integers(0, len(content) // 512, (10, 2)).tolist():
        swapped = bytearray(content)
        swapped[512 * one_at : 512 * one_at + 512] = content[512 * other_at : 512 * other_at + 512]
        swapped[512 * other_at : 512 * other_at + 512] = content[512 * one_at : 512 * one_at + 512]
        assert one_at == other_at or checksum(bytes(swapped)) != check


def test_threads_that_share_the_work_get_the_same_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    content = np.random.default_rng(4).bytes(5 * BLOCK + 12_345)
    alone = checksum(content[:99], content[99:])
    monkeypatch.setattr("mmsearch.vectors.checksum._PARALLEL_BYTES", BLOCK)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert checksum(content[:99], content[99:]) == alone


@pytest.mark.usefixtures("either_way")
def test_damage_of_any_byte_of_an_index_is_noticed(mixed: Path) -> None:
    for file in (one(mixed, "base-*"), one(mixed, "deleted-*")):
        content = file.read_bytes()
        for at in range(0, len(content), 17):
            file.write_bytes(content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :])
            assert IndexStore(mixed, DIM).open() is None, f"byte {at} of {file.name}"
        file.write_bytes(content)
    assert IndexStore(mixed, DIM).open() is not None


def test_damage_in_the_middle_of_a_large_index_is_noticed(tmp_path: Path) -> None:
    dim, rows = 256, 80_000  # 41 MB: the ends alone were checked once
    table = np.random.default_rng(5).standard_normal((1_000, dim)).astype(np.float32)
    store = IndexStore(tmp_path, dim)
    store.catch_up(span(0, rows), 1, lambda ids: (ids, table[ids % 1_000]))
    file = one(tmp_path, "base-*")
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        opened.write(bytes(4_096))
    assert store.open() is None
    assert store.verify(span(0, rows), 1, lambda ids: (ids, table[ids % 1_000])) == [f"{file} is damaged"]


# What FAISS never reads: files with the right checksum and another structure

CRAFTED = {
    "outer dimension": (4, (DIM * 2).to_bytes(4, "little")),
    "outer count": (8, (10**9).to_bytes(8, "little")),
    "untrained": (32, b"\0"),
    "outer metric": (33, (1).to_bytes(4, "little")),
    "another kind": (37, b"IxFI"),
    "inner dimension": (41, (DIM * 1000).to_bytes(4, "little")),
    "inner count": (45, (10**9).to_bytes(8, "little")),
    "inner metric": (70, (1).to_bytes(4, "little")),
    "code type": (74, (0).to_bytes(4, "little")),
    "range": (78, (3).to_bytes(4, "little")),
    "dimension of the codes": (86, (DIM * 1000).to_bytes(8, "little")),
    "size of a code": (94, (2**40).to_bytes(8, "little")),
    "trained values": (102, (2**61).to_bytes(8, "little")),
    "length of the codes": (110, (2**62).to_bytes(8, "little")),
    "ids": (-8 * 100 - 8, (2**60).to_bytes(8, "little")),
    "a negative id": (-8 * 100, (-5).to_bytes(8, "little", signed=True)),
    "an id beyond every bitmap": (-8, (2**62).to_bytes(8, "little")),
    "an id twice": (-16, (100).to_bytes(8, "little")),
}


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("part", CRAFTED)
def test_a_crafted_file_is_never_given_to_faiss(mixed: Path, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at, value = CRAFTED[part]
    file = one(mixed, "base-*")
    content = bytearray(file.read_bytes())
    at %= len(content)
    content[at : at + len(value)] = value
    file.write_bytes(content)
    sign(mixed, "base-*")

    def read(*_: object) -> None:
        pytest.fail("FAISS was given a crafted file")

    with monkeypatch.context() as patch:
        patch.setattr(faiss, "read_index", read)
        assert IndexStore(mixed, DIM).open() is None
    assert_rebuilt(mixed)


def test_a_manifest_that_claims_more_rows_than_a_file_holds_is_refused(mixed: Path) -> None:
    for count in (99, 101, 2**31, 2**40, -1, True, 1.0, "100", None, [100]):
        fields = manifest_of(mixed)
        fields["generations"][0]["count"] = count
        kept = (mixed / "manifest.json").read_bytes()
        put_manifest(mixed, fields)
        assert IndexStore(mixed, DIM).open() is None, count
        (mixed / "manifest.json").write_bytes(kept)
    assert IndexStore(mixed, DIM).open() is not None


def test_the_same_file_named_twice_is_refused(mixed: Path) -> None:
    fields = manifest_of(mixed)
    fields["generations"].append(fields["generations"][0])
    put_manifest(mixed, fields)
    assert_rebuilt(mixed)


def test_two_files_with_the_same_ids_are_refused(mixed: Path) -> None:
    fields = manifest_of(mixed)
    shutil.copyfile(one(mixed, "base-*"), mixed / "base-000001-001.faiss")
    fields["generations"].append({**fields["generations"][0], "name": "base-000001-001.faiss"})
    put_manifest(mixed, fields)
    assert_rebuilt(mixed)


@pytest.mark.parametrize(
    "name",
    [
        "../../thesis.faiss",
        "/etc/passwd",
        "base-000001-000.faiss/../base-000001-000.faiss",
        "base-\u0661\u0662\u0663\u0664\u0665\u0666-000.faiss",
        "b\0",
        ".",
        "",
    ],
)
def test_a_manifest_names_only_files_of_an_index(mixed: Path, name: str) -> None:
    shutil.copyfile(one(mixed, "base-*"), mixed.parent.parent / "thesis.faiss")
    fields = manifest_of(mixed)
    fields["generations"][0]["name"] = name
    put_manifest(mixed, fields)
    assert_rebuilt(mixed)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format": 2, "dim": 16, "revision": ' + b"9" * 10_000 + b"}",
        b'{"format": 2, "dim": 16, "revision": NaN, "serial": 1, "generations": [], "deleted": null}',
        b'{"format": 2, "dim": 16, "revision": 1e99, "serial": 1, "generations": [], "deleted": null}',
        b'{"format": 2, "dim": 16, "revision": 3, "serial": -1, "generations": [], "deleted": null}',
        b'{"format": 2, "dim": 16, "revision": 3, "serial": 1, "generations": {"a": 1}, "deleted": null}',
        b'{"format": 2, "dim": 16, "revision": 3, "serial": 1, "generations": [], "deleted": []}',
        b"\xff\xfe\x00",
        b" " * (MOST_BYTES + 1) + b"{}",
    ],
    ids=range(10),
)
def test_a_garbled_manifest_is_no_index(mixed: Path, content: bytes) -> None:
    (mixed / "manifest.json").write_bytes(content)
    assert IndexStore(mixed, DIM).revision() is None
    assert_rebuilt(mixed)


def test_a_serial_at_its_end_starts_again(mixed: Path) -> None:
    (mixed / f"base-{MOST_SERIAL}-000.faiss").write_bytes(b"a crafted name")
    (mixed / "manifest.json").unlink()
    assert_rebuilt(mixed)


def np_save(ids: object) -> bytes:
    content = io.BytesIO()
    np.save(content, np.asarray(ids), allow_pickle=True)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        np_save([1.0, 2.0, 3.0]),
        np_save([[1, 2, 3]]),
        np_save(np.asarray([{}, 2, 3], object)),
        np_save([1, 1, 2]),
        np_save([3, 2, 1]),
        np_save([1, 2, 900]),
        np_save([1, 2, -3]),
        np_save([1, 2, 3]).replace(b"(3,)", b"(3000000000000,)"),
        np_save([1, 2, 3]) + bytes(100),
    ],
    ids=range(10),
)
def test_deleted_ids_are_numbers_that_the_index_holds(mixed: Path, content: bytes) -> None:
    one(mixed, "deleted-*").write_bytes(content)
    fields = manifest_of(mixed)
    fields["deleted"]["check"] = zlib.crc32(content)
    put_manifest(mixed, fields)
    assert_rebuilt(mixed)


@pytest.mark.parametrize("pattern", ["manifest.json", "base-*", "delta-*", "deleted-*"])
@pytest.mark.parametrize("kind", ["pipe", "link", "device", "folder"])
def test_what_is_no_regular_file_is_no_part_of_an_index(mixed: Path, pattern: str, kind: str) -> None:
    file = one(mixed, pattern)
    kept = mixed.parent / file.name
    file.rename(kept)
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to(kept if kind == "link" else "/dev/zero")
    assert IndexStore(mixed, DIM).open() is None
    assert kept.exists()
    if kind != "folder" or pattern != "manifest.json":
        assert_rebuilt(mixed)


def test_an_index_that_is_reached_through_a_link_is_neither_read_nor_written_nor_removed(mixed: Path) -> None:
    library = mixed.parent / "library"
    library.mkdir()
    for link, folder in ((library / "visual", library / "visual"), (library / "up", library / "up" / mixed.name)):
        link.symlink_to(mixed if link == folder else mixed.parent)
        before = {file.name: file.read_bytes() for file in mixed.iterdir()}
        store = IndexStore(folder, DIM, library)
        assert store.open() is None
        assert store.verify(span(4, 105), 3, fetch) == [f"{folder} is a link or lies below one"]
        store.discard()
        with pytest.raises(OSError, match="no link and no file"):
            store.catch_up(span(4, 900), 4, fetch)
        assert {file.name: file.read_bytes() for file in mixed.iterdir()} == before


def test_only_files_of_an_index_are_removed_from_its_folder(mixed: Path) -> None:
    (mixed / "notes.txt").write_text("mine")
    (mixed / "base-000001-000.faiss.bak").write_text("mine")
    (mixed / ".base.7").write_text("mine")
    (mixed / "old").mkdir()
    (mixed / "old" / "base-000001-000.faiss").write_text("mine")
    for leftover in ("delta-000000-000.faiss", "base-000009-000.faiss.tmp", ".manifest.json.123"):
        (mixed / leftover).write_bytes(b"left by a killed process")
    IndexStore(mixed, DIM).catch_up(span(4, 900), 4, fetch)
    names = sorted(str(file.relative_to(mixed)) for file in mixed.rglob("*") if file.is_file())
    base = one(mixed, "base-*[0-9].faiss").name
    assert names == sorted(
        [".base.7", "base-000001-000.faiss.bak", base, "manifest.json", "notes.txt", "old/base-000001-000.faiss"]
    )


# Verifying


def test_a_whole_index_has_no_problems_nor_has_a_missing_one_or_one_that_is_behind(mixed: Path) -> None:
    store = IndexStore(mixed, DIM)
    assert store.verify(span(4, 105), 3, fetch) == []
    assert store.verify(span(50, 200), 4, fetch) == []
    assert IndexStore(mixed / "none", DIM).verify(span(4, 105), 3, fetch) == []


def test_verifying_names_each_difference_from_the_catalog(mixed: Path) -> None:
    store = IndexStore(mixed, DIM)
    (problem,) = store.verify(span(5, 108), 3, fetch)
    assert problem == f"{mixed} lacks 3 ids of the catalog and has 1 unknown to it"

    def other(ids: Ids) -> tuple[Ids, Rows]:
        return ids, TABLE[np.where(ids == 7, 8, ids)]

    assert store.verify(span(4, 105), 3, other) == [f"{mixed} holds other vectors than the catalog under 1 ids"]


@pytest.mark.parametrize("pattern", ["base-*", "delta-*", "deleted-*", "manifest.json"])
def test_verifying_names_a_damaged_file(mixed: Path, pattern: str) -> None:
    file = one(mixed, pattern)
    content = file.read_bytes()
    file.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    (problem,) = IndexStore(mixed, DIM).verify(span(4, 105), 3, fetch)
    assert str(file) in problem


def test_the_deleted_ids_are_compared_with_their_checksum_before_they_are_parsed(mixed: Path) -> None:
    file = one(mixed, "deleted-*")
    file.write_bytes(file.read_bytes().replace(b"'<i8'", b"',,,'"))  # a SyntaxError of NumPy's own reader
    store = IndexStore(mixed, DIM)
    assert store.open() is None
    assert store.catch_up(span(4, 105), 3, fetch).count == 101


# Changed while open


def open_mapped(folder: Path, patch: pytest.MonkeyPatch) -> FaissIndex:
    patch.setattr(generation, "IN_MEMORY_BYTES", 0)
    index = IndexStore(folder, DIM).open()
    assert index is not None
    return index


def test_an_index_cut_short_while_it_is_mapped_is_refused_and_not_searched(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = open_mapped(mixed, monkeypatch)
    assert index.is_intact()
    os.truncate(one(mixed, "base-*"), 0)
    assert not index.is_intact()
    for call in (lambda: index.search(TABLE[:1], 3), lambda: index.vectors(span(5, 9))):
        with pytest.raises(DamagedIndexError, match="run the same query again"):
            call()


def test_a_small_index_is_not_mapped_so_that_nobody_can_cut_it_short(mixed: Path) -> None:
    index = IndexStore(mixed, DIM).open()
    assert index is not None
    expected = index.search(TABLE[:3], 20)
    os.truncate(one(mixed, "base-*"), 0)
    assert index.is_intact()
    np.testing.assert_array_equal(index.search(TABLE[:3], 20)[1], expected[1])


def test_a_removed_file_is_still_searched_by_who_has_it_mapped(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = open_mapped(mixed, monkeypatch)
    expected = index.search(TABLE[:3], 20)[1]
    for file in mixed.iterdir():
        file.unlink()
    assert index.is_intact()
    np.testing.assert_array_equal(index.search(TABLE[:3], 20)[1], expected)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
def test_opening_again_and_again_leaves_no_descriptor_behind(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_mapped(mixed, monkeypatch)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        open_mapped(mixed, monkeypatch)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_nothing_is_written_to_the_terminal_about_damage(mixed: Path) -> None:
    """In a process of its own: FAISS writes past Python's streams."""
    code = (
        "import sys, pathlib, numpy as np\n"
        "from mmsearch.vectors import IndexStore, generation\n"
        "generation.IN_MEMORY_BYTES = 0\n"
        f"folder = pathlib.Path({str(mixed)!r})\n"
        "for file in sorted(folder.iterdir()):\n"
        "    content = file.read_bytes()\n"
        "    for at in range(0, len(content), max(1, len(content) // 40)):\n"
        "        file.write_bytes(content[:at])\n"
        f"        assert IndexStore(folder, {DIM}).open() is None\n"
        "    file.write_bytes(content)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# In memory


def test_an_index_in_memory_fetches_only_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "_ROWS", 70)
    asked: list[int] = []

    def noting(ids: Ids) -> tuple[Ids, Rows]:
        asked.extend(ids.tolist())
        return fetch(ids)

    index = NOTHING
    for live, lacking in (
        (span(0, 0), []),
        (span(1, 301), span(1, 301)),
        (np.union1d(span(50, 301), span(400, 450)), span(400, 450)),
        (span(60, 70), []),
        (np.union1d(span(60, 70), span(900, 905)), span(900, 905)),
        (span(40, 70), span(40, 70)),  # deleted ids are back, perhaps with other vectors
    ):
        asked.clear()
        index = follow(index, live, noting)
        assert asked == list(lacking)
        np.testing.assert_array_equal(index.ids(), live)
        assert index.count == len(live)
        follow(index, live, noting)
        assert asked == list(lacking)


@pytest.mark.parametrize("kind", ["growing", "exact"])
def test_an_index_in_memory_answers_as_a_plain_search_in_any_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "_ROWS", 70)
    for name, size in (("_FETCH_ROWS", 70), ("_WIDENED_ROWS", 33), ("_MAX_SCORES", 1_500)):
        monkeypatch.setattr(f"mmsearch.vectors.exact_index.{name}", size)
    live = np.setdiff1d(span(1, 700), span(100, 140))
    index: VectorIndex = ExactIndex.read(DIM, live, fetch)
    if kind == "growing":
        index = follow(follow(NOTHING, np.union1d(span(1, 300), span(800, 900)), fetch), live, fetch)
    queries = np.random.default_rng(8).standard_normal((7, DIM)).astype(np.float32)
    for k, chosen in itertools.product((1, 10, 1_000), (live, live[::3])):
        expected = queries @ TABLE[chosen].T
        scores, ids = index.search(queries, k, bitmap(chosen))
        many = min(k, len(chosen))
        np.testing.assert_array_equal(ids[:, :many], chosen[np.argsort(-expected, axis=1)][:, :many])
        np.testing.assert_allclose(scores[:, :many], -np.sort(-expected, axis=1)[:, :many], atol=1e-5)
        assert (ids[:, many:] == -1).all()
        assert np.isneginf(scores[:, many:]).all()


def test_an_index_in_memory_takes_two_bytes_a_number_in_few_generations() -> None:
    index = NOTHING
    for end in range(100, 3_100, 100):
        index = follow(index, span(0, end), fetch)
    (alone,) = index.generations
    assert len(codes_of(alone.index)) == 3_000 * DIM * 2
