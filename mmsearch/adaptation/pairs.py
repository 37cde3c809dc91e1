"""What a library can teach: the vectors of its captioned pictures, of its clips' pictures and sounds, and folder names.

A pair is a content that has two sides: a picture or a clip with a caption, or a clip of which a moment is seen and
heard. A tenth of the pairs of each kind is held out, with every side of theirs, by a hash of the content: half of it
(`ONE`) and the other half (`OTHER`) judge each other's early stop, see `verdict.py`.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog import Catalog, StoredContent
from mmsearch.media import sentences
from mmsearch.records import Origin
from mmsearch.spaces import Space, Vectors, embed, normalise
from mmsearch.types import View

TRAIN, ONE, OTHER = 0, 1, 2
"""What a content is for."""
_LEAST_HELD = 30
"""How many contents of a kind are held out at least, if they aren't more than half of it."""
_LEAST_OF_A_KIND = 20
_SENTENCES = 5
"""How many sentences of what is written of a content are learnt from."""
_MOST = 10_000
"""From so many pairs, chosen by the hash of their content, a small head has learnt what there is to learn."""
_BATCH = 256
_LARGEST_FOLDER = 0.5
"""A folder that holds more than this share of the pairs says nothing of what is in it."""


@dataclass(frozen=True, slots=True)
class Side:
    """The vectors (n, dim) of one view, and for each the pair that it belongs to, (n,) int64."""

    vectors: Vectors
    owners: NDArray[np.int64]

    def of(self, wanted: NDArray[np.bool_]) -> Side:
        """Return what belongs to the wanted pairs; owners keep their numbers."""
        mine = wanted[self.owners]
        return Side(self.vectors[mine], self.owners[mine])


@dataclass(frozen=True, slots=True)
class Collection:
    """The pairs of a library, numbered from 0.

    `words` are sentences and `pictures` one vector a pair; row i of `seen` and `heard` is the same moment of a clip.
    `tags` are −1 or the number of the folder that a pair lies in. `anchors` are some vectors of texts and sounds: where
    these have no pair, what they are near to should stay near to them.
    """

    folds: NDArray[np.int64]
    tags: NDArray[np.int64]
    words: Side
    pictures: Side
    seen: Side
    heard: Side
    anchors: dict[View, Vectors] = field(default_factory=dict)

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return len(np.union1d(self.pictures.owners, self.seen.owners))

    def telling(self) -> Collection:
        """Return the collection without the kind of pairs of which there are too few to learn from and to judge by."""
        words, pictures, seen, heard = self.words, self.pictures, self.seen, self.heard
        none = Side(pictures.vectors[:0], pictures.owners[:0])
        if self.captioned < _LEAST_OF_A_KIND:
            words = pictures = none
        if self.sounding < _LEAST_OF_A_KIND:
            seen = heard = none
        left = np.isin(np.arange(len(self.folds)), np.union1d(pictures.owners, seen.owners))
        folds = np.where(left, self.folds, TRAIN)
        return replace(self, folds=folds, words=words, pictures=pictures, seen=seen, heard=heard)

    @property
    def captioned(self) -> int:
        """How many pictures and clips have a caption."""
        return len(self.pictures.owners)

    @property
    def sounding(self) -> int:
        """How many clips are seen and heard."""
        return len(np.unique(self.seen.owners))


@dataclass(slots=True)
class _Gathered:
    """Rows in the order in which they are met."""

    hashes: list[bytes] = field(default_factory=list)
    folders: list[bytes | None] = field(default_factory=list)
    kinds: list[tuple[bool, bool]] = field(default_factory=list)
    rows: dict[str, list[tuple[int, NDArray[np.float32]]]] = field(
        default_factory=lambda: {"words": [], "pictures": [], "seen": [], "heard": []}
    )
    unread: list[tuple[int, str]] = field(default_factory=list)

    def side(self, name: str, dim: int, more: Sequence[tuple[int, NDArray[np.float32]]] = ()) -> Side:
        rows = sorted([*self.rows[name], *more], key=lambda row: row[0])
        vectors = np.stack([row[1] for row in rows]) if rows else np.zeros((0, dim))
        return Side(normalise(vectors), np.asarray([row[0] for row in rows], np.int64))

    def only(self, kept: Sequence[int]) -> tuple[_Gathered, list[int]]:
        """Return some of the pairs, numbered anew, and their new numbers in the order given."""
        places = {number: place for place, number in enumerate(sorted(kept))}
        few = _Gathered(
            hashes=[self.hashes[number] for number in places],
            folders=[self.folders[number] for number in places],
            kinds=[self.kinds[number] for number in places],
            rows={name: [(places[n], row) for n, row in rows if n in places] for name, rows in self.rows.items()},
            unread=[(places[n], text) for n, text in self.unread if n in places],
        )
        return few, [places[number] for number in kept]


def collect(
    catalog: Catalog, space: Space, seed: int = 0, read: Callable[[int, int], None] | None = None
) -> Collection:
    """Return what the catalog's profile has embedded in a space, as pairs.

    Queries are sentences, so captions are cut into theirs; those of several are embedded anew, which needs nothing but
    the catalog. `read` is told how many of them are done.
    """
    found = _Gathered()
    space_id = catalog.space_id(space.name, space.fingerprint, space.dim)
    for page in catalog.stored() if space_id is not None else ():
        for content in page:
            _gather(found, content, space_id or 0)
    order = sorted(range(len(found.hashes)), key=lambda n: hashlib.blake2b(b"%d " % seed + found.hashes[n]).digest())
    if len(order) > _MOST:
        found, order = found.only(order[:_MOST])
    embedded: list[tuple[int, NDArray[np.float32]]] = []
    for start in range(0, len(found.unread), _BATCH):
        some = found.unread[start : start + _BATCH]
        vectors = embed(space, View.TEXT, [text for _, text in some])
        embedded += [(owner, vector) for (owner, _), vector in zip(some, vectors, strict=True)]
        if read:
            read(start + len(some), len(found.unread))
    collection = Collection(
        folds=_split(order, found.kinds),
        tags=_tags(found.folders),
        words=found.side("words", space.dim, embedded),
        pictures=found.side("pictures", space.dim),
        seen=found.side("seen", space.dim),
        heard=found.side("heard", space.dim),
    )
    for view in (View.TEXT, View.AUDIO):
        if view in space.front_ends and space_id is not None:
            collection.anchors[view] = catalog.sample(space_id, view, 2 * _BATCH, space.dim)
    return collection


def _gather(found: _Gathered, content: StoredContent, space_id: int) -> None:
    """Take a content in if it is a pair."""
    number = len(found.hashes)
    visual: list[NDArray[np.float32]] = []
    moments: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    written: list[tuple[str, NDArray[np.float32]]] = []
    for segment in content.segments:
        vectors = {v.view: v.vector.astype(np.float32) for v in segment.views if v.space_id == space_id}
        if View.VISUAL in vectors:
            visual.append(vectors[View.VISUAL])
        if View.VISUAL in vectors and View.AUDIO in vectors and not segment.silent:
            moments.append((vectors[View.VISUAL], vectors[View.AUDIO]))
        # What is said in a moment of a clip doesn't describe it; what is written of the whole does.
        if View.TEXT in vectors:
            written += [(text.words, vectors[View.TEXT]) for text in segment.texts if text.origin is Origin.CAPTION]
    parts = [(pieces, vector) for text, vector in written if (pieces := sentences(text))]
    captioned = bool(visual and parts)
    if not captioned and not moments:
        return
    found.hashes.append(content.hash)
    found.folders.append(os.path.dirname(content.path) if content.path else None)  # noqa: PTH120  paths are bytes here
    found.kinds.append((captioned, bool(moments)))
    found.rows["seen"] += [(number, seen) for seen, _ in moments]
    found.rows["heard"] += [(number, heard) for _, heard in moments]
    if captioned:
        found.rows["pictures"].append((number, np.asarray(normalise(np.sum(visual, axis=0)), np.float32)))
        whole = [(number, vector) for pieces, vector in parts if len(pieces) == 1]
        cut = [(number, piece) for pieces, _ in parts if len(pieces) > 1 for piece in pieces]
        found.rows["words"] += whole[:_SENTENCES]
        found.unread += cut[: max(0, _SENTENCES - len(whole))]


def _split(order: Sequence[int], kinds: Sequence[tuple[bool, bool]]) -> NDArray[np.int64]:
    """Return what each pair is for: of each kind the first tenth in this order is held out, in two halves."""
    folds = np.full(len(order), TRAIN, np.int64)
    for kind in sorted(set(kinds)):
        mine = [n for n in order if kinds[n] == kind]
        held = mine[: max(len(mine) // 10, min(len(mine) // 2, _LEAST_HELD))]
        folds[held[0::2]], folds[held[1::2]] = ONE, OTHER
    return folds


def _tags(folders: Sequence[bytes | None]) -> NDArray[np.int64]:
    """Return the number of each pair's folder, −1 where it holds no other pair, or so many that it says nothing."""
    counts = Counter(folder for folder in folders if folder is not None)
    telling = sorted(folder for folder, count in counts.items() if 2 <= count <= _LARGEST_FOLDER * len(folders))
    numbers = {folder: number for number, folder in enumerate(telling)}
    return np.asarray([-1 if folder is None else numbers.get(folder, -1) for folder in folders], np.int64)
