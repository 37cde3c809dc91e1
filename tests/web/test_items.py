"""One item over HTTP: facts, pictures, the file by ranges, and a moment cut out of it."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from support.media_maker import BLUE, GREEN, RED
from support.serving import refusal_of, serving

import mmsearch
from mmsearch import Settings


def test_an_item_has_its_facts_texts_and_segments(client: TestClient, ids: dict[str, int], media: Path) -> None:
    item = client.get(f"/items/{ids['clip.mp4']}").json()
    assert (item["id"], item["path"], item["modality"]) == (ids["clip.mp4"], str(media / "clip.mp4"), "video")
    assert item["facts"]["duration_s"] == pytest.approx(6, abs=0.2)
    assert [segment["start_s"] for segment in item["segments"]] == pytest.approx([0, 3], abs=0.6)
    assert item["segment_count"] == 2
    note = client.get(f"/items/{ids['a note.txt']}").json()
    assert note["texts"][0]["origin"] == "passage"
    assert note["texts"][0]["words"] == "milk and bread, and two lemons"
    assert "no item 99" in refusal_of(client.get("/items/99"), 404)


@pytest.mark.parametrize(
    ("name", "at_s", "colour"), [("blue.png", 0, BLUE), ("clip.mp4", 1, RED), ("clip.mp4", 5, GREEN)]
)
def test_a_thumbnail_shows_the_picture_or_the_moment(
    client: TestClient, ids: dict[str, int], name: str, at_s: float, colour: tuple[int, int, int]
) -> None:
    answer = client.get(f"/items/{ids[name]}/thumbnail", params={"at": at_s, "size": 100})
    assert answer.headers["content-type"] == "image/jpeg"
    picture = Image.open(io.BytesIO(answer.content))
    assert max(picture.size) <= 160
    np.testing.assert_allclose(np.asarray(picture).mean(axis=(0, 1)), colour, atol=25)
    again = client.get(answer.url, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_what_shows_nothing_has_no_thumbnail(client: TestClient, ids: dict[str, int]) -> None:
    refusal_of(client.get(f"/items/{ids['a note.txt']}/thumbnail"), 422)


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        (None, 200, 0, 30),
        ("bytes=0-", 206, 0, 30),
        ("bytes=5-9", 206, 5, 10),
        ("bytes=-4", 206, 26, 30),
        ("bytes=10-9999", 206, 10, 30),
        ("bytes=-9999", 206, 0, 30),
        ("bytes=0-1,5-6", 200, 0, 30),
        ("lines=1-2", 200, 0, 30),
        ("bytes=-", 200, 0, 30),
    ],
)
def test_a_file_is_sent_whole_or_by_one_range(
    client: TestClient, ids: dict[str, int], media: Path, asked: str | None, status: int, start: int, end: int
) -> None:
    whole = (media / "a note.txt").read_bytes()
    assert len(whole) == 30
    answer = client.get(f"/items/{ids['a note.txt']}/file", headers={"range": asked} if asked else {})
    assert (answer.status_code, answer.content) == (status, whole[start:end])
    assert answer.headers["content-length"] == str(end - start)
    assert answer.headers.get("content-range") == (f"bytes {start}-{end - 1}/30" if status == 206 else None)


@pytest.mark.parametrize("asked", ["bytes=30-", "bytes=9-3", "bytes=-0", f"bytes={10**30}-"])
def test_a_range_that_the_file_does_not_have_is_refused(client: TestClient, ids: dict[str, int], asked: str) -> None:
    answer = client.get(f"/items/{ids['a note.txt']}/file", headers={"range": asked})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */30")


def test_a_part_is_sent_only_of_the_content_that_the_client_has(client: TestClient, ids: dict[str, int]) -> None:
    address = f"/items/{ids['a note.txt']}/file"
    etag = client.head(address).headers["etag"]
    assert client.get(address, headers={"range": "bytes=0-3", "if-range": etag}).status_code == 206
    assert client.get(address, headers={"range": "bytes=0-3", "if-range": '"older"'}).status_code == 200
    assert client.get(address, headers={"if-none-match": etag}).status_code == 304
    assert client.head(address).content == b""


@pytest.mark.parametrize(
    ("name", "kind"),
    [("page.md", "text/plain; charset=utf-8"), ("blue.png", "image/png"), ("odd.avi", "application/octet-stream")],
)
def test_a_file_is_never_a_page_that_runs(client: TestClient, ids: dict[str, int], name: str, kind: str) -> None:
    answer = client.get(f"/items/{ids[name]}/file")
    assert answer.headers["content-type"] == kind
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-disposition"].startswith("attachment" if name == "odd.avi" else "inline")


@pytest.mark.parametrize(("name", "start_s", "colour"), [("clip.mp4", 4, GREEN), ("odd.avi", 1, BLUE)])
def test_a_moment_is_cut_and_plays_where_browsers_play(
    client: TestClient, ids: dict[str, int], name: str, start_s: float, colour: tuple[int, int, int]
) -> None:
    answer = client.get(f"/items/{ids[name]}/clip", params={"start": start_s, "end": start_s + 1.5})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    with av.open(io.BytesIO(answer.content), "r") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].codec_context.name == "h264"
    assert 1.2 <= len(frames) / 10 <= 2.6  # at 10 frames a second; a copy begins at the key frame before
    np.testing.assert_allclose(frames[-1].mean(axis=(0, 1)), colour, atol=40)


@pytest.mark.parametrize(
    ("name", "start_s", "end_s", "status", "said"),
    [
        ("clip.mp4", 3, 3, 400, "ends after it starts"),
        ("clip.mp4", 3, 1, 400, "ends after it starts"),
        ("clip.mp4", 0, 500, 400, "lasts 120 s at most"),
        ("clip.mp4", 100, 101, 422, "nothing is there"),
        ("clip.mp4", "nan", 101, 422, "start"),
        ("blue.png", 0, 1, 404, "no moments"),
        ("a note.txt", 0, 1, 404, "no moments"),
    ],
)
def test_a_moment_that_is_not_there_is_refused(
    client: TestClient, ids: dict[str, int], name: str, start_s: float, end_s: float, status: int, said: str
) -> None:
    answer = client.get(f"/items/{ids[name]}/clip", params={"start": start_s, "end": end_s})
    assert said in refusal_of(answer, status)


def test_a_file_that_was_deleted_is_not_there_and_the_rest_is(media: Path, tmp_path: Path) -> None:
    shutil.copy(media / "blue.png", tmp_path / "gone.png")
    shutil.copy(media / "red.png", tmp_path / "red.png")
    with mmsearch.open(tmp_path / "lib", model="hashing", settings=Settings(workers=1)) as library:
        library.index(tmp_path / "gone.png", tmp_path / "red.png")
        ids = {item.path.name: item.id for item in library.items()}
    (tmp_path / "gone.png").unlink()
    with serving(tmp_path / "lib") as client:
        for part in ("file", "thumbnail", "similar"):
            assert "mmsearch index" in refusal_of(client.get(f"/items/{ids['gone.png']}/{part}"), 404)
        exported = client.post("/export", content=f"ids={ids['gone.png']},{ids['red.png']},{ids['red.png']}")
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        assert sorted(archive.namelist()) == ["not exported.txt", "red.png"]
        assert archive.read("red.png") == (tmp_path / "red.png").read_bytes()
        assert b"gone.png" in archive.read("not exported.txt")


def test_files_of_one_name_are_exported_under_names_of_their_own(media: Path, tmp_path: Path) -> None:
    for n, name in enumerate(("blue.png", "red.png", "green.png")):
        (tmp_path / str(n)).mkdir()
        shutil.copy(media / name, tmp_path / str(n) / ("same.png" if n else "SAME.png"))
    with mmsearch.open(tmp_path / "lib", model="hashing", settings=Settings(workers=1)) as library:
        library.index(tmp_path)
        ids = [item.id for item in library.items()]
    with serving(tmp_path / "lib") as client:
        exported = client.post("/export", content="ids=" + ",".join(map(str, ids)))
        refusal_of(client.post("/export", content="ids="), 400)
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        assert len({name.casefold() for name in archive.namelist()}) == 3
        assert archive.testzip() is None


def test_a_clip_that_became_a_list_of_other_files_opens_none_of_them(media: Path, tmp_path: Path) -> None:
    shutil.copy(media / "clip.mp4", tmp_path / "clip.mp4")
    with mmsearch.open(tmp_path / "lib", model="hashing", settings=Settings(workers=1)) as library:
        library.index(tmp_path / "clip.mp4")
        (number,) = [item.id for item in library.items()]
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:6,\n{media / 'clip.mp4'}\n#EXT-X-ENDLIST\n"
    script = f"ffconcat version 1.0\nfile '{media / 'clip.mp4'}'\n"
    with serving(tmp_path / "lib") as client:
        for content in (playlist, script):
            (tmp_path / "clip.mp4").write_text(content)
            refusal_of(client.get(f"/items/{number}/clip?start=0&end=2"), 422)
            refusal_of(client.get(f"/items/{number}/thumbnail"), 422)
