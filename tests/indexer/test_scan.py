"""A scan finds the media below a root, in byte order, and says what it left out and why."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.media_maker import put

from indexer.scan import Scan
from mmsearch.catalog import Root
from mmsearch.types import Stage

CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n"
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
posix = pytest.mark.skipif(os.name == "nt", reason="this kind of file exists on POSIX systems only")


def scan(*roots: Path, exclude: tuple[str, ...] = (), skip: Path | None = None) -> Scan:
    return Scan([Root(os.fsencode(root), tuple(exclude)) for root in roots], skip)


def found(walk: Scan, below: Path) -> list[str]:
    """The paths that a scan yields, in its order, relative to a folder."""
    return [os.path.relpath(os.fsdecode(entry.path), below) for entry in walk]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "photos"
    made.mkdir()
    return made


def test_media_are_found_folder_by_folder_in_byte_order(folder: Path) -> None:
    for name in ("b.jpg", "a.txt", "B.png", "ž.gif", "sub/c.webp", "sub/deeper/d.md", "another/e.bmp"):
        put(folder, name)
    assert found(scan(folder), folder) == [
        "B.png",
        "a.txt",
        "b.jpg",
        "ž.gif",
        "another/e.bmp",
        "sub/c.webp",
        "sub/deeper/d.md",
    ]


def test_an_entry_shows_size_and_time_to_the_nanosecond(folder: Path) -> None:
    path = put(folder, "a.jpg", b"12345")
    os.utime(path, ns=(1_000_000_007, 1_600_000_000_123_456_789))
    (entry,) = scan(folder)
    status = path.stat()
    assert (entry.path, entry.size_bytes) == (os.fsencode(path), 5)
    assert entry.mtime_ns == status.st_mtime_ns
    assert entry.device == str(status.st_dev)


def test_other_files_are_passed_over(folder: Path) -> None:
    for name in ("a.jpg", "b.xls", "c", "d.mp4", "e.wav", "Makefile", "f.jpg.part"):
        put(folder, name)
    walk = scan(folder)
    assert found(walk, folder) == ["a.jpg", "d.mp4", "e.wav"]
    assert walk.failures == []


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.jpg",
        "._photo.jpg",
        ".folder/a.jpg",
        "@eaDir/a.jpg",
        "sub/@eaDir/a.jpg/SYNOPHOTO.jpg",
        "__pycache__/a.txt",
        "$RECYCLE.BIN/a.jpg",
        "#recycle/a.jpg",
        "lost+found/a.jpg",
    ],
)
def test_hidden_files_and_what_systems_keep_are_left_out(folder: Path, name: str) -> None:
    put(folder, "a.jpg")
    put(folder, name)
    assert found(scan(folder), folder) == ["a.jpg"]


def test_a_tagged_cache_is_left_out_with_all_below_it(folder: Path) -> None:
    put(folder, "a.jpg")
    put(folder, "cache/CACHEDIR.TAG", CACHE_TAG)
    put(folder, "cache/b.jpg")
    put(folder, "cache/deeper/c.jpg")
    assert found(scan(folder), folder) == ["a.jpg"]


@pytest.mark.parametrize(
    ("glob", "left"),
    [
        ("*.png", ["a.jpg", "sub/d.jpg", "sub/deeper/e.jpg"]),
        ("a.*", ["b.png", "sub/c.png", "sub/d.jpg", "sub/deeper/e.jpg"]),
        ("sub", ["a.jpg", "b.png"]),
        ("deeper", ["a.jpg", "b.png", "sub/c.png", "sub/d.jpg"]),
        ("sub/*.png", ["a.jpg", "b.png", "sub/d.jpg", "sub/deeper/e.jpg"]),
        ("sub/deeper", ["a.jpg", "b.png", "sub/c.png", "sub/d.jpg"]),
        ("[ab].*", ["sub/c.png", "sub/d.jpg", "sub/deeper/e.jpg"]),
        ("*.PNG", ["a.jpg", "b.png", "sub/c.png", "sub/d.jpg", "sub/deeper/e.jpg"]),
        ("photos", ["a.jpg", "b.png", "sub/c.png", "sub/d.jpg", "sub/deeper/e.jpg"]),
    ],
)
def test_a_glob_leaves_out_names_and_paths_below_the_root(folder: Path, glob: str, left: list[str]) -> None:
    for name in ("a.jpg", "b.png", "sub/c.png", "sub/d.jpg", "sub/deeper/e.jpg"):
        put(folder, name)
    assert found(scan(folder, exclude=(glob,)), folder) == left


def test_several_globs_each_leave_out_theirs(folder: Path) -> None:
    for name in ("a.jpg", "b.png", "c.gif"):
        put(folder, name)
    assert found(scan(folder, exclude=("*.png", "c.*")), folder) == ["a.jpg"]


@posix
def test_a_loop_of_links_ends(folder: Path) -> None:
    put(folder, "a.jpg")
    put(folder, "sub/b.jpg")
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "self").symlink_to(".")
    walk = scan(folder)
    assert found(walk, folder) == ["a.jpg", "sub/b.jpg"]
    assert walk.failures == []


@posix
def test_two_folders_that_link_to_each_other_end(folder: Path) -> None:
    put(folder, "one/a.jpg")
    put(folder, "two/b.jpg")
    (folder / "one" / "to-two").symlink_to(folder / "two")
    (folder / "two" / "to-one").symlink_to(folder / "one")
    assert found(scan(folder), folder) == ["one/a.jpg", "two/b.jpg"]


@posix
def test_a_linked_folder_outside_is_walked_once(folder: Path, tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/a.jpg")
    (folder / "link1").symlink_to(tmp_path / "elsewhere")
    (folder / "link2").symlink_to(tmp_path / "elsewhere")
    assert [Path(path).name for path in found(scan(folder), folder)] == ["a.jpg"]


@posix
def test_a_folder_goes_by_its_real_name_before_a_link_to_it(folder: Path) -> None:
    put(folder, "real/a.jpg")
    (folder / "also").symlink_to(folder / "real")
    assert found(scan(folder), folder) == ["real/a.jpg"]


@posix
def test_a_linked_file_is_media_under_the_name_of_the_link(folder: Path, tmp_path: Path) -> None:
    target = put(tmp_path, "elsewhere/original.jpg", b"123")
    (folder / "link.jpg").symlink_to(target)
    (entry,) = scan(folder)
    assert (entry.path, entry.size_bytes) == (os.fsencode(folder / "link.jpg"), 3)


@posix
def test_a_dangling_link_is_reported(folder: Path) -> None:
    put(folder, "a.jpg")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    walk = scan(folder)
    assert found(walk, folder) == ["a.jpg"]
    assert [(failure.path, failure.stage) for failure in walk.failures] == [(folder / "gone.jpg", Stage.SCAN)]
    assert "leads nowhere" in walk.failures[0].reason


@posix
def test_a_link_to_itself_is_reported(folder: Path) -> None:
    (folder / "loop.jpg").symlink_to("loop.jpg")
    walk = scan(folder)
    assert found(walk, folder) == []
    assert [failure.path for failure in walk.failures] == [folder / "loop.jpg"]
    assert "\n" not in walk.failures[0].reason


@posix
def test_pipes_sockets_and_devices_are_passed_over_without_opening_them(folder: Path) -> None:
    import stat

    put(folder, "a.jpg")
    os.mkfifo(folder / "pipe.jpg")
    os.mknod(folder / "socket.jpg", 0o600 | stat.S_IFSOCK)
    (folder / "device.jpg").symlink_to("/dev/zero")
    walk = scan(folder)
    assert found(walk, folder) == ["a.jpg"]
    assert walk.failures == []


def test_a_folder_named_like_a_picture_is_walked(folder: Path) -> None:
    put(folder, "album.jpg/a.jpg")
    assert found(scan(folder), folder) == ["album.jpg/a.jpg"]


@pytest.mark.skipif(AS_ROOT or os.name == "nt", reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_incomplete(folder: Path) -> None:
    put(folder, "a.jpg")
    closed = put(folder, "closed/b.jpg").parent
    closed.chmod(0)
    try:
        assert_incomplete(folder, closed)
    finally:
        closed.chmod(0o700)


def test_a_folder_that_fails_while_it_is_listed_is_incomplete(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, "a.jpg")
    closed = put(folder, "closed/b.jpg").parent
    refuse_listing(closed, monkeypatch)
    assert_incomplete(folder, closed)


def refuse_listing(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system refuse to list one folder, however it is asked: root may list every real one."""
    listdir, scandir = os.listdir, os.scandir

    def refuse(path: str | bytes | int) -> None:
        if not isinstance(path, int) and os.fsencode(path) == os.fsencode(closed):
            raise PermissionError(errno.EACCES, "Permission denied", path)

    def listed(path: bytes) -> list[bytes]:
        refuse(path)
        return listdir(path)

    def scanned(path: bytes) -> Iterator[os.DirEntry[bytes]]:
        refuse(path)
        return scandir(path)

    monkeypatch.setattr(os, "listdir", listed)
    monkeypatch.setattr(os, "scandir", scanned)


def assert_incomplete(folder: Path, closed: Path) -> None:
    walk = scan(folder)
    assert found(walk, folder) == ["a.jpg"]
    assert walk.incomplete == {os.fsencode(closed)}
    assert [(failure.path, failure.stage) for failure in walk.failures] == [(closed, Stage.SCAN)]
    assert "permission denied" in walk.failures[0].reason


def test_a_single_file_in_a_folder_that_may_not_be_listed_is_still_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(folder, "a.jpg")
    refuse_listing(folder, monkeypatch)
    assert [entry.path for entry in scan(path)] == [os.fsencode(path)]


def test_captions_are_attached_in_reading_order_and_are_no_media(folder: Path) -> None:
    put(folder, "a.jpg")
    for name in ("a.jpg.json", "a.txt", "a.json"):
        put(folder, name, "{}")
    put(folder, "notes.txt")
    picture, note = scan(folder)
    assert picture.path == os.fsencode(folder / "a.jpg")
    assert picture.sidecars == tuple(os.fsencode(folder / name) for name in ("a.txt", "a.json", "a.jpg.json"))
    assert note.path == os.fsencode(folder / "notes.txt")
    assert note.sidecars == ()


def test_one_caption_serves_each_picture_of_its_name(folder: Path) -> None:
    for name in ("a.jpg", "a.heic", "a.txt"):
        put(folder, name)
    caption = (os.fsencode(folder / "a.txt"),)
    assert [(entry.path, entry.sidecars) for entry in scan(folder)] == [
        (os.fsencode(folder / "a.heic"), caption),
        (os.fsencode(folder / "a.jpg"), caption),
    ]


def test_the_stamp_changes_with_the_file_and_with_its_caption(folder: Path) -> None:
    put(folder, "a.jpg", b"1")
    stamps = [next(iter(scan(folder))).stamp]
    put(folder, "a.txt", b"A wall")
    stamps.append(next(iter(scan(folder))).stamp)
    put(folder, "a.txt", b"A red wall")
    stamps.append(next(iter(scan(folder))).stamp)
    put(folder, "a.jpg", b"12")
    stamps.append(next(iter(scan(folder))).stamp)
    assert len(set(stamps)) == 4


def test_a_note_beside_a_folder_named_like_a_picture_is_media(folder: Path) -> None:
    put(folder, "album.jpg/a.jpg")
    put(folder, "album.txt", "Notes on the album.")
    assert found(scan(folder), folder) == ["album.txt", "album.jpg/a.jpg"]


@posix
@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link"])
def test_what_is_no_file_is_no_caption_and_spoils_no_picture(folder: Path, kind: str) -> None:
    put(folder, "a.jpg")
    beside = folder / "a.txt"
    if kind == "folder":
        beside.mkdir()
    elif kind == "pipe":
        os.mkfifo(beside)
    else:
        beside.symlink_to("nowhere.txt")
    (entry,) = scan(folder)
    assert entry.path == os.fsencode(folder / "a.jpg")
    assert entry.sidecars == ()


@posix
@pytest.mark.parametrize(
    "name", [b"\xff\xfe.jpg", b"caf\xe9.jpg", b"two\nlines.jpg", b"\x1b[31mred.jpg", b"-rf.jpg", b" .jpg"]
)
def test_any_name_that_a_file_can_have_is_kept_byte_for_byte(folder: Path, name: bytes) -> None:
    put(folder, name, b"1")
    put(folder, name[:-4] + b".txt", b"A wall")
    (entry,) = scan(folder)
    assert entry.path == os.path.join(os.fsencode(folder), name)  # noqa: PTH118  paths are bytes here
    assert entry.sidecars == (entry.path[:-4] + b".txt",)


@posix
def test_folders_of_any_name_are_walked_and_can_be_excluded(folder: Path) -> None:
    put(folder, b"caf\xe9/a.jpg")
    put(folder, b"new\nline/b.jpg")
    root = os.fsencode(folder)
    assert [entry.path for entry in scan(folder)] == [root + b"/caf\xe9/a.jpg", root + b"/new\nline/b.jpg"]
    assert [entry.path for entry in scan(folder, exclude=("caf*",))] == [root + b"/new\nline/b.jpg"]


def test_a_single_file_is_found_with_its_captions_and_without_its_neighbours(folder: Path) -> None:
    put(folder, "a.jpg")
    put(folder, "a.txt", "A wall")
    put(folder, "b.jpg")
    (entry,) = scan(folder / "a.jpg")
    assert entry.path == os.fsencode(folder / "a.jpg")
    assert entry.sidecars == (os.fsencode(folder / "a.txt"),)


def test_a_single_file_in_the_working_folder_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, "a.jpg")
    monkeypatch.chdir(folder)
    assert [entry.path for entry in Scan([Root(b"a.jpg")])] == [b"a.jpg"]


def test_a_single_file_that_vanished_is_reported(folder: Path) -> None:
    walk = scan(folder / "gone.jpg")
    assert found(walk, folder) == []
    assert [failure.path for failure in walk.failures] == [folder / "gone.jpg"]


@pytest.mark.parametrize(
    "roots",
    [
        ["", "sub"],
        ["sub", ""],
        ["", "sub/b.jpg", "a.jpg"],
        ["sub/b.jpg", ""],
        ["", "", "sub/deeper"],
        ["sub/deeper", "sub", ""],
    ],
)
def test_overlapping_roots_give_each_file_once(folder: Path, roots: list[str]) -> None:
    for name in ("a.jpg", "sub/b.jpg", "sub/deeper/c.jpg"):
        put(folder, name)
    seen = found(scan(*(folder / root for root in roots)), folder)
    assert sorted(seen) == ["a.jpg", "sub/b.jpg", "sub/deeper/c.jpg"]


def test_the_library_s_own_folder_is_left_out(folder: Path) -> None:
    put(folder, "a.jpg")
    put(folder, "library/thumbnails/b.jpg")
    assert found(scan(folder, skip=folder / "library"), folder) == ["a.jpg"]


@posix
def test_the_library_s_own_folder_is_left_out_under_a_link_too(folder: Path, tmp_path: Path) -> None:
    put(folder, "a.jpg")
    put(tmp_path, "library/b.jpg")
    (folder / "link").symlink_to(tmp_path / "library")
    assert found(scan(folder, skip=tmp_path / "library"), folder) == ["a.jpg"]


def test_folders_with_media_below_are_occupied_and_empty_ones_are_not(folder: Path) -> None:
    put(folder, "sub/deeper/a.jpg")
    put(folder, "empty/readme.xls")
    walk = scan(folder)
    assert found(walk, folder) == ["sub/deeper/a.jpg"]
    below = {path for path in walk.occupied if path.startswith(os.fsencode(folder))}
    assert below == {os.fsencode(folder / name) for name in ("", "sub", "sub/deeper")}
    assert set(walk.devices) == below | {os.fsencode(folder / "empty")}


def test_a_deep_tree_is_walked_to_its_end(folder: Path) -> None:
    put(folder, "/".join(["d"] * 500) + "/a.jpg")
    assert found(scan(folder), folder) == ["/".join(["d"] * 500) + "/a.jpg"]
