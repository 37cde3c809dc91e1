"""The files of an index: what is written, its checksums, and how they are compared with the catalog."""

from __future__ import annotations

import os
from pathlib import Path

import faiss
import numpy as np
import pytest
from support.small_indexes import DIM, HEADER, TABLE, Ids, Rows, fetch, one, span
from support.small_indexes import either_way as either_way
from support.small_indexes import mixed as mixed

from mmsearch.vectors import IndexStore
from mmsearch.vectors.checksum import BLOCK, checksum
from mmsearch.vectors.generation import write_generation


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
