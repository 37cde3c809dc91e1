"""A link among the media takes in an album, never the whole disk, the system's state or the library itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.media_maker import encoded, plain, put

import mmsearch
from indexer import links
from indexer.links import Links, Top
from indexer.scan import Scan
from mmsearch.catalog import Root
from mmsearch.media import Sidecars
from mmsearch.types import Stage

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links and devices as POSIX systems have them")


def scan(*roots: Path, skip: Path | None = None) -> Scan:
    return Scan([Root(os.fsencode(root)) for root in roots], skip)


def found(walk: Scan, below: Path) -> list[str]:
    return [os.path.relpath(os.fsdecode(entry.path), below) for entry in walk]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A disk with an indexed folder, photos, beside a home and a folder that isn't indexed."""
    put(tmp_path, "disk/photos/a.jpg")
    put(tmp_path, "disk/private/b.jpg")
    put(tmp_path, "home/me/c.jpg")
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    return tmp_path / "disk"


@pytest.mark.parametrize("target", ["..", "/", "../..", "../../home", "../../home/me"])
def test_a_link_that_leads_up_is_said_and_not_followed(disk: Path, target: str) -> None:
    link = disk / "photos" / "x"
    link.symlink_to(target)
    walk = scan(disk / "photos")
    assert found(walk, disk) == ["photos/a.jpg"]
    ((path, stage, reason),) = [(failure.path, failure.stage, failure.reason) for failure in walk.failures]
    assert (path, stage) == (link, Stage.SCAN)
    assert "isn't followed" in reason
    assert walk.incomplete == {os.fsencode(link)}  # what the library holds there stays


@pytest.mark.parametrize("target", ["/proc", "/proc/self", "/proc/self/root/proc", "/sys", "/dev", "/run"])
def test_a_link_to_the_system_s_own_state_is_not_followed(disk: Path, target: str) -> None:
    if not Path(target).is_dir():
        pytest.skip("this system has no such folder")
    (disk / "photos" / "x").symlink_to(target)
    walk = scan(disk / "photos")
    assert found(walk, disk) == ["photos/a.jpg"]
    assert [failure.path.name for failure in walk.failures] == ["x"]


def test_a_chain_of_links_leads_no_further_up_than_one(disk: Path, tmp_path: Path) -> None:
    put(tmp_path, "other/album/d.jpg")
    put(tmp_path, "other/e.jpg")
    (disk / "photos" / "album").symlink_to(tmp_path / "other" / "album")
    (tmp_path / "other" / "album" / "up").symlink_to("..")
    walk = scan(disk / "photos")
    assert found(walk, disk) == ["photos/a.jpg", "photos/album/d.jpg"]
    assert [failure.path for failure in walk.failures] == [disk / "photos" / "album" / "up"]


def test_a_folder_and_the_one_that_holds_it_may_both_be_linked(disk: Path, tmp_path: Path) -> None:
    put(tmp_path, "other/album/d.jpg")
    put(tmp_path, "other/e.jpg")
    (disk / "photos" / "1").symlink_to(tmp_path / "other" / "album")
    (disk / "photos" / "2").symlink_to(tmp_path / "other")
    walk = scan(disk / "photos")
    assert found(walk, disk) == ["photos/a.jpg", "photos/1/d.jpg", "photos/2/e.jpg"]
    assert walk.failures == []


def test_a_link_into_another_root_is_no_link_up(disk: Path) -> None:
    (disk / "photos" / "x").symlink_to("../private")
    walk = scan(disk / "photos", disk)
    assert sorted(found(walk, disk)) == ["photos/a.jpg", "private/b.jpg"]
    assert walk.failures == []


def test_a_link_that_is_named_itself_is_followed_wherever_it_leads(disk: Path) -> None:
    (disk / "photos" / "x").symlink_to("..")
    assert sorted(found(scan(disk / "photos" / "x"), disk)) == ["photos/x/photos/a.jpg", "photos/x/private/b.jpg"]


def test_a_link_into_the_library_is_not_followed(disk: Path, tmp_path: Path) -> None:
    put(tmp_path, "library/indexes/1/f.jpg")
    (disk / "photos" / "x").symlink_to(tmp_path / "library" / "indexes" / "1")
    walk = scan(disk / "photos", skip=tmp_path / "library")
    assert found(walk, disk) == ["photos/a.jpg"]
    assert ["library's own folder" in failure.reason for failure in walk.failures] == [True]


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux shows its state there")
def test_linked_files_of_the_system_s_own_state_are_neither_media_nor_captions(disk: Path) -> None:
    (disk / "photos" / "secret.txt").symlink_to("/proc/self/environ")
    (disk / "photos" / "a.txt").symlink_to("/proc/self/environ")
    (entry,) = scan(disk / "photos")
    assert (entry.path, entry.sidecars) == (os.fsencode(disk / "photos" / "a.jpg"), ())


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="Linux shows its state there")
def test_the_system_s_own_state_is_no_root(disk: Path) -> None:
    walk = scan(Path("/proc"))
    assert list(walk) == []
    assert ["system's own state" in failure.reason for failure in walk.failures] == [True]


def test_a_file_system_of_state_below_a_root_is_passed_over_and_what_is_known_there_stays(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is for `/` itself: the folder `private` stands for `/proc`."""

    def is_state(_self: Links, status: os.stat_result, _top: Top) -> bool:
        return status.st_ino == (disk / "private").stat().st_ino

    monkeypatch.setattr(Links, "is_state", is_state)
    walk = scan(disk)
    assert found(walk, disk) == ["photos/a.jpg"]
    assert (walk.failures, walk.incomplete) == ([], {os.fsencode(disk / "private")})


def test_mounts_of_state_are_known_by_their_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(
        b"22 27 0:21 / /proc rw,relatime - proc proc rw\n"
        b"27 1 254:0 / / rw shared:1 master:2 - ext4 /dev/vda rw\n"
        b"40 27 0:50 / /mnt/a\\040b rw - tmpfs tmpfs rw\n"
        b"41 27 0:51 / /run/user/1000/gvfs rw - fuse.gvfsd-fuse gvfsd-fuse rw\n"
        b"no mount at all\n"
    )
    monkeypatch.setattr(links, "_MOUNTS", mounts)
    rules = Links.of([os.fsencode(tmp_path)], None)
    assert rules.kernel == {os.makedev(0, 21), os.makedev(0, 51)}
    root = rules.top(b"/")
    assert not rules.is_state(Path("/").stat(), root)


def test_a_folder_above_that_is_mounted_below_again_is_not_walked(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (disk / "photos" / "again").mkdir()
    stat = os.stat

    def bound(path: bytes, **options: bool) -> os.stat_result:
        return stat(disk if path == os.fsencode(disk / "photos" / "again") else path, **options)

    monkeypatch.setattr(os, "stat", bound)
    walk = scan(disk / "photos")
    assert found(walk, disk) == ["photos/a.jpg"]
    assert ["mounted here again" in failure.reason for failure in walk.failures] == [True]


def test_what_was_taken_in_by_a_link_stays_when_it_is_no_longer_followed(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n, file in enumerate((disk / "photos" / "a.png", disk / "private" / "b.png")):
        file.write_bytes(encoded(plain((90 * n, 0, 0)), "PNG"))
    (disk / "photos" / "a.jpg").unlink()
    (disk / "private" / "b.jpg").unlink()
    (disk / "photos" / "x").symlink_to("../private")
    with mmsearch.open(tmp_path / "library", model="hashing") as library:
        assert library.index(disk / "photos").added == 2
        (disk / "photos" / "x").unlink()
        (disk / "photos" / "x").symlink_to("..")
        report = library.index(disk / "photos")
        assert (report.removed, [failure.path.name for failure in report.failures]) == (0, ["x"])
        assert library.status().media[mmsearch.Modality.IMAGE] == 2
        (disk / "photos" / "x").unlink()
        report = library.index(disk / "photos")
        assert (report.removed, library.failures()) == (1, [])


def test_a_folder_that_is_renamed_while_it_is_walked_loses_nothing(disk: Path) -> None:
    put(disk, "photos/sub/z.jpg")
    walk = scan(disk / "photos")
    entries = iter(walk)
    assert os.path.basename(next(entries).path) == b"a.jpg"  # noqa: PTH119  paths are bytes here
    (disk / "photos" / "sub").rename(disk / "photos" / "00")
    assert list(entries) == []
    assert walk.incomplete == {os.fsencode(disk / "photos" / "sub")}
    assert walk.failures == []


def test_a_name_beyond_what_the_system_opens_is_said_with_the_right_remedy(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.open(disk / "photos", os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=folder)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    walk = scan(disk / "photos")
    assert found(walk, disk) == ["photos/a.jpg"]
    assert ["shorten its name, or move it further up" in failure.reason for failure in walk.failures] == [True]


def test_a_folder_of_many_clips_without_captions_looks_for_none(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sidecars, "of", lambda *_: pytest.fail("it looks for captions of a clip"))
    for n in range(20):
        put(disk, f"photos/{n}.mp4")
    assert len(list(scan(disk / "photos"))) == 21
