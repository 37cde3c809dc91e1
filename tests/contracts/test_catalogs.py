"""What every catalog promises of files, contents, segments and vectors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.catalogs import DIM, Open, Vector, content, named, paths, photo, rounded, segment, vector
from support.catalogs import held as held
from support.catalogs import reopen as reopen
from support.catalogs import small_parts as small_parts
from support.catalogs import space as space

from mmsearch.catalog import Catalog, FailureRow, Known, MediaRow, NewContent, NewMedia
from mmsearch.records import Origin, Segment, Text
from mmsearch.types import Modality, View


def test_vectors_come_back_as_they_were_but_for_float16_rounding(held: Catalog, space: int, reopen: Open) -> None:
    seen, written, heard = vector(1), vector(2), vector(3)
    held.commit(
        [
            content(
                "h1", segment({(space, View.VISUAL): seen, (space, View.TEXT): written}, "a cat"), at=["/p/cat.jpg"]
            ),
            content("h2", segment({(space, View.AUDIO): heard}), at=["/p/cat.mp4"], modality=Modality.VIDEO),
        ],
        "key",
    )
    for one in (held, reopen()):
        (visual,), (text,), (audio,) = (one.embedding_ids(space, view) for view in (View.VISUAL, View.TEXT, View.AUDIO))
        ids, vectors = one.vectors(np.sort([visual, text, audio]), DIM)
        expected = {visual: seen, text: written, audio: heard}
        assert ids.tolist() == sorted(expected)
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, rounded(*(expected[at] for at in ids.tolist())))


def test_all_views_of_a_segment_come_together(held: Catalog, space: int) -> None:
    other = held.add_space("standard", "f2", DIM)
    held.commit(
        [
            content("h1", segment({(space, View.VISUAL): vector(1), (space, View.TEXT): vector(2)}), at=["/a.jpg"]),
            content("h2", segment({(space, View.VISUAL): vector(3), (other, View.VISUAL): vector(4)}), at=["/b.jpg"]),
        ],
        "key",
    )
    first, second = (held.segment_ids(held.content_with_hash(digest) or 0)[0] for digest in (b"h1", b"h2"))
    found = held.embeddings_of([first, second], space, DIM)
    assert found.ids.shape == found.segment_ids.shape == (3,)
    by_side = dict(zip(zip(found.segment_ids.tolist(), found.views, strict=True), found.vectors, strict=True))
    expected = {(first, View.VISUAL): 1, (first, View.TEXT): 2, (second, View.VISUAL): 3}
    assert set(by_side) == set(expected)
    for side, seed in expected.items():
        np.testing.assert_array_equal(by_side[side], rounded(vector(seed))[0])
    assert held.segments_of(found.ids.tolist()) == dict(
        zip(found.ids.tolist(), found.segment_ids.tolist(), strict=True)
    )
    assert len(held.embeddings_of([], space, DIM).ids) == 0


def test_ids_that_are_gone_are_left_out(held: Catalog, space: int) -> None:
    photo(held, "/a.jpg", 1)
    photo(held, "/b.jpg", 2)
    ids, vectors = held.vectors(np.asarray([1, 2, 99]), DIM)
    assert ids.tolist() == [1, 2]
    np.testing.assert_array_equal(vectors, rounded(vector(1), vector(2)))
    ids, vectors = held.vectors(np.asarray([], np.int64), DIM)
    assert (ids.shape, vectors.shape) == ((0,), (0, DIM))
    assert held.segments_of([2, 99]) == {2: 2}


def test_a_deleted_id_is_never_handed_out_again(held: Catalog, space: int) -> None:
    def ids() -> tuple[int, int, int, int]:
        (row,) = held.media_at([b"/a.jpg"]).values()
        (embedding,) = held.embedding_ids(space, View.VISUAL).tolist()
        return row.id, row.content_id, held.segment_ids(row.content_id)[0], embedding

    seen = []
    for seed in range(3):
        photo(held, "/a.jpg", seed)
        seen.append(ids())
        held.remove([b"/a.jpg"])
        held.drop_orphans()
    assert seen == [(1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)]
    assert held.next_media_id() == 1  # above what there is: nothing


def test_a_name_need_not_be_utf_8(held: Catalog, space: int) -> None:
    for name in (b"/p/\xff\xfe caf\xe9.jpg", "/p/日本.jpg".encode(), b"/p/'; drop table media; --.jpg", b"/p/%_*?.jpg"):
        held.commit([content(name, segment({(space, View.VISUAL): vector(1)}), at=[name])], "key")
        assert held.media_at([name])[name].path == name
        (row,) = held.segment_rows(held.segment_ids(held.media_at([name])[name].content_id)).values()
        assert row.path == name
    assert len(list(held.media_under(b"/p"))) == 4


def test_media_at_gives_what_was_committed(held: Catalog, space: int) -> None:
    name = NewMedia(b"/a.jpg", 123, 1_700_000_000_123_456_789, "5:6;", str(2**64 - 1))
    held.commit([NewContent(b"h", Modality.IMAGE, [segment({(space, View.VISUAL): vector(1)})], [name])], "key")
    assert held.media_at([b"/a.jpg", b"/b.jpg"]) == {
        b"/a.jpg": MediaRow(1, b"/a.jpg", 1, 123, 1_700_000_000_123_456_789, "5:6;", str(2**64 - 1), "key")
    }


def test_media_under_a_folder_is_what_lies_below_it_and_nothing_beside_it(held: Catalog, space: int) -> None:
    for path in ("/photos/a.jpg", "/photos/b/c.jpg", "/photos2/d.jpg", "/photos.jpg", "/photo/e.jpg", "/photos-/f.jpg"):
        photo(held, path)
    inside = [b"/photos/a.jpg", b"/photos/b/c.jpg"]
    assert paths(held.media_under(b"/photos")) == paths(held.media_under(b"/photos/")) == inside
    assert paths(held.media_under(b"/photos/a.jpg")) == [b"/photos/a.jpg"]
    assert paths(held.media_under(b"/photos.jpg")) == [b"/photos.jpg"]
    assert paths(held.media_under(b"/phot")) == []
    assert paths(held.media_under(b"/photos/b/c.jp")) == []
    assert len(paths(held.media_under(b"/"))) == 6


def test_no_character_of_a_folder_is_a_wildcard(held: Catalog, space: int) -> None:
    for path in ("/a_b/1.jpg", "/axb/2.jpg", "/50%/3.jpg", "/50 percent/4.jpg", "/[x]/5.jpg", "/x/6.jpg", "/*/7.jpg"):
        photo(held, path)
    for folder, inside in (
        (b"/a_b", b"/a_b/1.jpg"),
        (b"/50%", b"/50%/3.jpg"),
        (b"/[x]", b"/[x]/5.jpg"),
        (b"/*", b"/*/7.jpg"),
    ):
        assert paths(held.media_under(folder)) == [inside]


def test_media_under_a_folder_comes_in_byte_order_over_many_pages(held: Catalog, space: int, small_parts: None) -> None:
    names = [f"/p/{name}.jpg" for name in ("b", "Z", "é", "a/x", "a", "a b", "0", "z", "日", "_")]
    for path in names:
        photo(held, path)
    assert paths(held.media_under(b"/p")) == sorted(os.fsencode(name) for name in names)


def test_lists_longer_than_a_statement_takes_are_cut(held: Catalog, space: int, small_parts: None) -> None:
    names = [f"/p/{at}.jpg".encode() for at in range(10)]
    for at, name in enumerate(names):
        photo(held, os.fsdecode(name), at)
    held.commit([], "key", [FailureRow(name + b"x", "decode", "bad", "", "1") for name in names])
    assert set(held.media_at(names)) == set(names)
    assert set(held.contents_by_hash(names, "key")) == set(names)
    assert len(held.failures_at([name + b"x" for name in names])) == 10
    ids = held.embedding_ids(space, View.VISUAL)
    np.testing.assert_array_equal(held.vectors(ids, DIM)[1], rounded(*(vector(at) for at in range(10))))
    segments = held.segments_of(ids.tolist())
    assert len(segments) == len(held.segment_rows(segments.values())) == 10
    assert len(held.embeddings_of(segments.values(), space, DIM).ids) == 10
    assert held.remove(names) == 10


def test_a_rename_keeps_content_and_vectors(held: Catalog, space: int) -> None:
    photo(held, "/old.jpg", 1)
    before = held.media_at([b"/old.jpg"])[b"/old.jpg"].content_id
    ids, revision = held.embedding_ids(space, View.VISUAL).tolist(), held.revision
    held.point({named("/new.jpg"): before})
    assert held.remove([b"/old.jpg"]) == 1
    held.drop_orphans()
    assert paths(held.media_under(b"/")) == [b"/new.jpg"]
    assert held.media_at([b"/new.jpg"])[b"/new.jpg"].content_id == before
    assert held.embedding_ids(space, View.VISUAL).tolist() == ids
    assert held.revision == revision


def test_a_path_may_be_pointed_at_another_content(held: Catalog, space: int) -> None:
    photo(held, "/a.jpg", 1)
    photo(held, "/b.jpg", 2)
    other = held.media_at([b"/b.jpg"])[b"/b.jpg"].content_id
    held.point({named("/a.jpg", 55, 66): other})
    row = held.media_at([b"/a.jpg"])[b"/a.jpg"]
    assert (row.content_id, row.size_bytes, row.mtime_ns) == (other, 55, 66)
    held.drop_orphans()
    assert held.content_with_hash(b"/a.jpg") is None
    assert len(held.embedding_ids(space, View.VISUAL)) == 1


def test_content_without_a_name_goes_with_its_segments_and_vectors(held: Catalog, space: int) -> None:
    parts = [segment({(space, View.TEXT): vector(at)}, f"passage {at}") for at in range(3)]
    held.commit([content("note", *parts, at=["/n.md", "/copy.md"], modality=Modality.TEXT)], "key")
    photo(held, "/a.jpg")
    held.remove([b"/n.md"])
    held.drop_orphans()
    assert held.count_segments() == 4
    held.remove([b"/copy.md"])
    assert held.count_segments() == 4  # until the run that removed it is over
    held.drop_orphans()
    assert held.count_segments() == 1
    assert held.embedding_ids(space, View.TEXT).tolist() == []
    assert len(held.embedding_ids(space, View.VISUAL)) == 1
    assert held.content_with_hash(b"note") is None


def test_a_content_under_the_same_hash_is_replaced_whole(held: Catalog, space: int) -> None:
    parts = [segment({(space, View.TEXT): vector(at)}, f"passage {at}") for at in range(3)]
    held.commit([content("h", *parts, at=["/n.md"], modality=Modality.TEXT)], "old key")
    held.point({named("/copy.md"): held.content_with_hash(b"h") or 0})
    old = held.embedding_ids(space, View.TEXT)
    held.commit(
        [content("h", segment({(space, View.TEXT): vector(9)}, "new"), at=["/n.md"], modality=Modality.TEXT)], "key"
    )
    new = held.embedding_ids(space, View.TEXT)
    assert len(new) == 1
    assert not set(new.tolist()) & set(old.tolist())
    np.testing.assert_array_equal(held.vectors(new, DIM)[1], rounded(vector(9)))
    assert held.count_segments() == 1
    assert paths(held.media_under(b"/")) == [b"/copy.md", b"/n.md"]
    assert {row.embedded_by for row in held.media_under(b"/")} == {"key"}


def test_contents_are_known_by_hash_and_by_who_embedded_them(held: Catalog, space: int) -> None:
    photo(held, "/a.jpg")
    assert held.contents_by_hash([b"/a.jpg", b"other"], "key") == {b"/a.jpg": Known(1, Modality.IMAGE, None)}
    assert held.contents_by_hash([b"/a.jpg"], "another key") == {}
    assert held.count_outdated("key") == 0
    assert held.count_outdated("another key") == 1


def test_embedding_ids_are_sorted_and_those_of_a_view_and_a_space(held: Catalog, space: int) -> None:
    other = held.add_space("standard", "f2", DIM)
    kinds = [Modality.VIDEO, Modality.IMAGE, Modality.VIDEO, Modality.TEXT, Modality.IMAGE]
    for at, kind in enumerate(kinds):
        both = {(space, View.VISUAL): vector(at), (other, View.TEXT): vector(at)}
        held.commit([content(f"h{at}", segment(both), at=[f"/{at}"], modality=kind)], "key")
    every = held.embedding_ids(space, View.VISUAL)
    assert every.dtype == np.int64
    assert every.tolist() == sorted(every.tolist())
    assert len(every) == 5
    assert held.embedding_ids(space, View.TEXT).tolist() == []


def test_a_sample_depends_on_the_hashes_and_not_on_the_order_of_insertion(tmp_path: Path) -> None:
    samples = []
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        held = Catalog(tmp_path / f"{order[0]}.sqlite", create=True)
        space = held.add_space("mini", "f1", DIM)
        for at in order:
            held.commit([content(f"h{at}", segment({(space, View.VISUAL): vector(at)}), at=[f"/{at}"])], "key")
        samples.append(held.sample(space, View.VISUAL, 3, DIM))
        assert held.sample(space, View.VISUAL, 99, DIM).shape == (5, DIM)
        assert held.sample(space, View.TEXT, 3, DIM).shape == (0, DIM)
        held.close()
    np.testing.assert_array_equal(samples[1], samples[0])
    held_vectors = rounded(*(vector(at) for at in range(5)))
    for row in samples[0]:
        assert (held_vectors == row).all(axis=1).any()


def test_a_long_text_doesnt_crowd_the_others_out_of_a_sample(held: Catalog, space: int) -> None:
    passages = [segment({(space, View.TEXT): vector(100 + at)}) for at in range(50)]
    held.commit([content("a book", *passages, at=["/book.txt"], modality=Modality.TEXT)], "key")
    for at in range(4):
        note = content(
            f"note {at}", segment({(space, View.TEXT): vector(at)}), at=[f"/{at}.txt"], modality=Modality.TEXT
        )
        held.commit([note], "key")
    sample = held.sample(space, View.TEXT, 5, DIM)
    for at in range(4):
        assert (sample == rounded(vector(at))).all(axis=1).any(), f"note {at} isn't in the sample of 5 contents"


def test_a_segment_goes_by_the_first_of_its_paths_in_byte_order(held: Catalog, space: int) -> None:
    part = Segment({(space, View.AUDIO): vector(1)}, 1.5, 4.0, (Text(Origin.SUBTITLE, "spoken", "en", (1.5, 3.0)),))
    held.commit([NewContent(b"h", Modality.VIDEO, [part], [named("/p/é.mp4"), named("/p/z.mp4")])], "key")
    held.point({named("/p/a.mp4"): 1, named("/p/Z.mp4"): 1})
    (row,) = held.segment_rows([1]).values()
    assert (row.id, row.content_id, row.modality, row.path) == (1, 1, Modality.VIDEO, b"/p/Z.mp4")
    assert (row.start_s, row.end_s, held.texts_of([1])) == (1.5, 4.0, {1: part.texts})
    held.remove([b"/p/Z.mp4"])
    assert held.segment_rows([1])[1].path == b"/p/a.mp4"


def test_a_segment_whose_last_path_was_removed_is_left_out(held: Catalog, space: int) -> None:
    photo(held, "/a.jpg")
    held.remove([b"/a.jpg"])
    assert held.segment_rows([1, 99]) == {}


def test_counts_are_of_files_and_of_segments(held: Catalog, space: int) -> None:
    assert held.count_media() == dict.fromkeys(Modality, 0)
    photo(held, "/a.jpg")
    held.point({named("/copy.jpg"): 1})
    held.commit([content("n", segment({}), segment({}), at=["/n.md"], modality=Modality.TEXT)], "key")
    assert held.count_media() == {**dict.fromkeys(Modality, 0), Modality.IMAGE: 2, Modality.TEXT: 1}
    assert held.count_segments() == 3


@pytest.mark.parametrize(
    "damaged",
    [np.full(DIM, np.nan), np.full(DIM, np.inf), np.zeros(DIM), np.full(DIM, 9.0), np.eye(DIM + 1)[0]],
    ids=["NaN", "infinite", "zero", "long", "of another length"],
)
def test_a_damaged_vector_is_left_out_and_spoils_no_other(
    held: Catalog, space: int, damaged: Vector, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        photo(held, f"/{number}.jpg", number)
    held.commit([content("bad", segment({(1, View.VISUAL): damaged}), at=["/bad.jpg"])], "key")
    ids = held.embedding_ids(space, View.VISUAL)
    good, vectors = held.vectors(ids, DIM)
    assert good.tolist() == ids.tolist()[:4]
    assert np.isfinite(vectors).all() and len(vectors) == 4
    assert held.sample(space, View.VISUAL, 100, DIM).shape == (4, DIM)
    segments = list(held.segments_of(ids.tolist()).values())
    together = held.embeddings_of(segments, space, DIM)
    assert (len(together.vectors), len(together.views), sorted(together.ids.tolist())) == (4, 4, good.tolist())
    assert [record.getMessage() for record in caplog.records] == [
        f"{held.file} holds damaged vectors, which are left out; run 'mmsearch index' to mend it"
    ]
