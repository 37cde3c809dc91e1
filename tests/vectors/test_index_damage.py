"""Indexes of another structure than they should have: they are rebuilt, and FAISS never reads them."""

from __future__ import annotations

import io
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from support.small_indexes import DIM, HEADER, fetch, one, span
from support.small_indexes import either_way as either_way
from support.small_indexes import mixed as mixed

from mmsearch.vectors import IndexStore
from mmsearch.vectors.checksum import checksum
from mmsearch.vectors.manifest import MOST_BYTES, MOST_SERIAL


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
