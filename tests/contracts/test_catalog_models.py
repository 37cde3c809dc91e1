"""What every catalog promises of models: what each embedded is kept apart, changed to whole, and dropped whole."""

from __future__ import annotations

import os

import numpy as np
from support.catalogs import DIM, Open, content, named, photo, rounded, segment, vector
from support.catalogs import held as held
from support.catalogs import reopen as reopen
from support.catalogs import small_parts as small_parts
from support.catalogs import space as space

from mmsearch.catalog import Catalog, NewContent, ProfileRow
from mmsearch.catalog.rows import NewSegment
from mmsearch.records import Segment
from mmsearch.types import Modality, View


def test_the_profile_and_the_spaces_are_kept(held: Catalog, reopen: Open) -> None:
    assert (held.profile, held.current) == (None, None)
    assert held.set_profile("mini", ["mini"]) == 1
    assert held.set_profile("standard", ["a/b@1", "mini"]) == 1  # of two that open a library at once, the first wins
    first = held.add_space("mini", "f1", DIM)
    assert held.add_space("mini", "f1", DIM) == first
    second = held.add_space("mini", "f2", DIM)
    assert first != second
    again = reopen()
    assert again.profile == ProfileRow(1, "mini", ("mini",), "")
    assert (again.space_id("mini", "f1", DIM), again.space_id("mini", "f2", DIM)) == (first, second)
    assert again.space_id("mini", "f3", DIM) is None
    assert again.space_id("mini", "f1", DIM + 1) is None


def test_what_two_profiles_make_of_a_content_in_the_same_space_is_kept_apart(held: Catalog, reopen: Open) -> None:
    held.set_profile("mini", ["mini"])
    other = held.beside(held.begin_change("standard", ["a/b@1", "mini"]))
    passages = {held: ["one", "two", "three"], other: ["one two", "three"]}
    spaces = {view: view.add_space("mini", "f1", DIM) for view in passages}
    assert spaces[held] != spaces[other]
    seen: dict[Catalog, int] = {}
    for seed, (view, texts) in enumerate(passages.items()):
        parts = [segment({(spaces[view], View.TEXT): vector(10 * seed + n)}, text) for n, text in enumerate(texts)]
        view.commit([content("h", *parts, at=["/n.txt"], modality=Modality.TEXT)], f"key {seed}")
        seen[view] = view.revision
    assert seen[held] != seen[other]
    again = reopen()
    for seed, (view, texts) in enumerate([(again, passages[held]), (again.beside(other.profile_id), passages[other])]):
        ids = view.embedding_ids(spaces[held] if seed == 0 else spaces[other], View.TEXT)
        wanted = rounded(*(vector(10 * seed + n) for n in range(len(texts))))
        np.testing.assert_array_equal(view.vectors(ids, DIM)[1], wanted)
        written = view.texts_of(view.segment_ids(1)).values()
        assert sorted(text.words for own in written for text in own) == sorted(texts)
        assert (view.count_segments(), view.segment_counts([1])) == (len(texts), {1: len(texts)})
        assert view.media_at([b"/n.txt"])[b"/n.txt"].embedded_by == f"key {seed}"
        assert (list(view.contents_by_hash([b"h"], "key 0")) == [b"h"]) is (seed == 0)
        assert (view.count_outdated(f"key {seed}"), view.count_outdated("key 2"), view.count_whole()) == (0, 1, 1)
    assert [view.revision for view in seen] == list(seen.values())  # the one's commit leaves the other's indexes fresh
    assert not held.had_revision(seen[other])
    held.remove([b"/n.txt"])
    held.drop_orphans()
    assert all(view.revision != revision for view, revision in seen.items())
    assert (held.count_segments(), other.count_segments()) == (0, 0)


def test_a_profile_answers_from_when_it_lacks_nothing(held: Catalog, space: int, small_parts: None) -> None:
    held.set_profile("mini", ["mini"])
    names = [f"/{at}.jpg" for at in range(8)]
    for at, name in enumerate(names):
        photo(held, name, at)
    other = held.beside(held.begin_change("standard", ["x"]))
    assert held.begin_change("standard", ["x"]) == other.profile_id
    assert held.begin_change("standard", ["y"]) != other.profile_id
    held.begin_change("standard", ["x"])
    assert [os.fsdecode(row.path) for row in other.lacking("new key")] == names
    for name in names[1:]:
        other.commit([content(name, at=[name])], "new key")
    half: NewSegment = Segment({}, 0, 5)
    other.commit([NewContent(b"/0.jpg", Modality.IMAGE, [half], [named("/0.jpg")], 0, 5.0)], "new key")
    assert (other.count_lacking("new key"), other.count_lacking("newer key"), other.count_whole()) == (1, 8, 7)
    assert other.switch("new key") is None
    assert (held.current, held.change) == (1, other.profile_id)
    other.commit([NewContent(b"/0.jpg", Modality.IMAGE, [], [named("/0.jpg")], 5.0)], "new key")
    assert other.switch("newer key") is None
    assert other.switch("new key") == 0
    assert (held.current, held.change, held.count_segments()) == (other.profile_id, None, 8)
    photo(held, "/late.jpg")
    assert other.switch("new key") is None
    assert other.switch("new key", drop=True) == 1
    assert held.media_at([b"/late.jpg"]) == {}


def test_dropping_the_other_profiles_leaves_this_one_alone(held: Catalog, space: int, small_parts: None) -> None:
    held.set_profile("mini", ["mini"])
    other = held.beside(held.begin_change("standard", ["x"]))
    other_space = other.add_space("mini", "f1", DIM)
    for at in range(8):
        photo(held, f"/{at}.jpg", at)
        other.commit([content(f"/{at}.jpg", segment({(other_space, View.VISUAL): vector(-at % 99)}))], "key")
    other.commit([content("/only.jpg", segment({}), at=["/only.jpg"])], "key")
    ids, revision = held.embedding_ids(space, View.VISUAL).tolist(), held.revision
    assert held.count_outdated("key") == 1
    assert held.drop_others() == 0  # it is what the library changes to
    held.end_change()
    assert held.drop_others() == 1
    assert held.drop_others() == 0
    assert (held.embedding_ids(space, View.VISUAL).tolist(), held.revision) == (ids, revision)
    assert (held.change, [row.id for row in held.profiles()]) == (None, [1])
    assert (other.count_segments(), other.count_whole(), other.space_id("mini", "f1", DIM)) == (0, 0, None)
    assert held.count_outdated("key") == 1  # the file that only the other has embedded
    held.shrink()
    assert held.embedding_ids(space, View.VISUAL).tolist() == ids
