"""The training pairs of a library: captioned pictures, clips with frames and sound, and the folders they lie in.

A pair is a content with two sides: a picture or clip with a caption, or a clip with a moment that has both a frame and
a sound. By a hash of the content, a tenth of the pairs of each kind is held out, with all their sides, in two halves
(`HALF_A`, `HALF_B`) that check each other's early stop: see `early_stopping.py`.
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

TRAIN, HALF_A, HALF_B = 0, 1, 2
"""The folds of a collection: training, and the two halves of the held-out pairs."""
_MIN_HELD_OUT = 30
"""Minimum number of held-out contents of a kind, though never more than half of them."""
_MIN_OF_A_KIND = 20
_SENTENCES = 5
"""Maximum number of caption sentences of a content."""
_MAX_PAIRS = 10_000
"""Pairs beyond this number are left out, by the hash of their content: a small head gains nothing from more."""
_BATCH = 256
_MAX_FOLDER_SHARE = 0.5
"""A folder with more than this share of the pairs is no evidence that two of its pairs are related."""


@dataclass(frozen=True, slots=True)
class Side:
    """The vectors (n, dim) of one side of the pairs, and the number of the pair of each, (n,) int64."""

    vectors: Vectors
    owners: NDArray[np.int64]

    def of(self, wanted: NDArray[np.bool_]) -> Side:
        """Return the vectors of the wanted pairs, (pairs,) bool; pairs keep their numbers."""
        rows = wanted[self.owners]
        return Side(self.vectors[rows], self.owners[rows])


@dataclass(frozen=True, slots=True)
class Collection:
    """The pairs of a library, numbered from 0.

    `captions` has one vector per sentence and `pictures` one per pair; row i of `frames` and of `sounds` is the same
    moment of a clip. `tags` are the number of a pair's folder or −1. `anchors` are sample vectors of texts and sounds:
    a view without pairs is not trained, and similarities to its anchors should stay as they are.
    """

    folds: NDArray[np.int64]
    tags: NDArray[np.int64]
    captions: Side
    pictures: Side
    frames: Side
    sounds: Side
    anchors: dict[View, Vectors] = field(default_factory=dict)

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return len(np.union1d(self.pictures.owners, self.frames.owners))

    def without_rare_kinds(self) -> Collection:
        """Return the collection without a kind of pairs that has too few of them for training and measuring."""
        captions, pictures, frames, sounds = self.captions, self.pictures, self.frames, self.sounds
        none = Side(pictures.vectors[:0], pictures.owners[:0])
        if self.captioned < _MIN_OF_A_KIND:
            captions = pictures = none
        if self.sounding < _MIN_OF_A_KIND:
            frames = sounds = none
        left = np.isin(np.arange(len(self.folds)), np.union1d(pictures.owners, frames.owners))
        folds = np.where(left, self.folds, TRAIN)
        return replace(self, folds=folds, captions=captions, pictures=pictures, frames=frames, sounds=sounds)

    @property
    def captioned(self) -> int:
        """Number of pictures and clips with a caption."""
        return len(self.pictures.owners)

    @property
    def sounding(self) -> int:
        """Number of clips with frames and sound."""
        return len(np.unique(self.frames.owners))


@dataclass(slots=True)
class _PairRows:
    """The rows of pairs in the catalog's order; `unread` are sentences that must be embedded first."""

    hashes: list[bytes] = field(default_factory=list)
    folders: list[bytes | None] = field(default_factory=list)
    kinds: list[tuple[bool, bool]] = field(default_factory=list)
    rows: dict[str, list[tuple[int, NDArray[np.float32]]]] = field(
        default_factory=lambda: {"captions": [], "pictures": [], "frames": [], "sounds": []}
    )
    unread: list[tuple[int, str]] = field(default_factory=list)

    def side(self, name: str, dim: int, more: Sequence[tuple[int, NDArray[np.float32]]] = ()) -> Side:
        rows = sorted([*self.rows[name], *more], key=lambda row: row[0])
        vectors = np.stack([row[1] for row in rows]) if rows else np.zeros((0, dim))
        return Side(normalise(vectors), np.asarray([row[0] for row in rows], np.int64))

    def only(self, kept: Sequence[int]) -> tuple[_PairRows, list[int]]:
        """Return some of the pairs, numbered from 0 again, and their new numbers in the given order."""
        numbers = {old: new for new, old in enumerate(sorted(kept))}
        subset = _PairRows(
            hashes=[self.hashes[old] for old in numbers],
            folders=[self.folders[old] for old in numbers],
            kinds=[self.kinds[old] for old in numbers],
            rows={name: [(numbers[n], row) for n, row in rows if n in numbers] for name, rows in self.rows.items()},
            unread=[(numbers[n], text) for n, text in self.unread if n in numbers],
        )
        return subset, [numbers[old] for old in kept]


def collect(
    catalog: Catalog, space: Space, seed: int = 0, read: Callable[[int, int], None] | None = None
) -> Collection:
    """Return the pairs of the catalog's contents, with their vectors in a space.

    A query is one sentence, so captions are split into sentences. If there are several, each is embedded again from
    the catalog's text; `read` is called with the number of embedded sentences and their total.
    """
    pairs = _PairRows()
    space_id = catalog.space_id(space.name, space.fingerprint, space.dim)
    for page in catalog.stored() if space_id is not None else ():
        for content in page:
            _add_content(pairs, content, space_id or 0)
    order = sorted(range(len(pairs.hashes)), key=lambda n: hashlib.blake2b(b"%d " % seed + pairs.hashes[n]).digest())
    if len(order) > _MAX_PAIRS:
        pairs, order = pairs.only(order[:_MAX_PAIRS])
    embedded: list[tuple[int, NDArray[np.float32]]] = []
    for start in range(0, len(pairs.unread), _BATCH):
        batch = pairs.unread[start : start + _BATCH]
        vectors = embed(space, View.TEXT, [text for _, text in batch])
        embedded += [(owner, vector) for (owner, _), vector in zip(batch, vectors, strict=True)]
        if read:
            read(start + len(batch), len(pairs.unread))
    collection = Collection(
        folds=_split(order, pairs.kinds),
        tags=_tags(pairs.folders),
        captions=pairs.side("captions", space.dim, embedded),
        pictures=pairs.side("pictures", space.dim),
        frames=pairs.side("frames", space.dim),
        sounds=pairs.side("sounds", space.dim),
    )
    for view in (View.TEXT, View.AUDIO):
        if view in space.front_ends and space_id is not None:
            collection.anchors[view] = catalog.sample(space_id, view, 2 * _BATCH, space.dim)
    return collection


def _add_content(pairs: _PairRows, content: StoredContent, space_id: int) -> None:
    """Add a content if it is a pair."""
    number = len(pairs.hashes)
    visual: list[NDArray[np.float32]] = []
    moments: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    captions: list[tuple[str, NDArray[np.float32]]] = []
    for segment in content.segments:
        vectors = {v.view: v.vector.astype(np.float32) for v in segment.views if v.space_id == space_id}
        if View.VISUAL in vectors:
            visual.append(vectors[View.VISUAL])
        if View.VISUAL in vectors and View.AUDIO in vectors and not segment.silent:
            moments.append((vectors[View.VISUAL], vectors[View.AUDIO]))
        # Only captions describe a clip as a whole; subtitles and speech don't describe what is visible.
        if View.TEXT in vectors:
            captions += [(text.words, vectors[View.TEXT]) for text in segment.texts if text.origin is Origin.CAPTION]
    parts = [(pieces, vector) for text, vector in captions if (pieces := sentences(text))]
    captioned = bool(visual and parts)
    if not captioned and not moments:
        return
    pairs.hashes.append(content.hash)
    pairs.folders.append(os.path.dirname(content.path) if content.path else None)  # noqa: PTH120  paths are bytes here
    pairs.kinds.append((captioned, bool(moments)))
    pairs.rows["frames"] += [(number, frame) for frame, _ in moments]
    pairs.rows["sounds"] += [(number, sound) for _, sound in moments]
    if captioned:
        pairs.rows["pictures"].append((number, np.asarray(normalise(np.sum(visual, axis=0)), np.float32)))
        single = [(number, vector) for pieces, vector in parts if len(pieces) == 1]
        split = [(number, piece) for pieces, _ in parts if len(pieces) > 1 for piece in pieces]
        pairs.rows["captions"] += single[:_SENTENCES]
        pairs.unread += split[: max(0, _SENTENCES - len(single))]


def _split(order: Sequence[int], kinds: Sequence[tuple[bool, bool]]) -> NDArray[np.int64]:
    """Return the fold of each pair: the first tenth of each kind, in the given order, is held out in two halves."""
    folds = np.full(len(order), TRAIN, np.int64)
    for kind in sorted(set(kinds)):
        of_kind = [n for n in order if kinds[n] == kind]
        held_out = of_kind[: max(len(of_kind) // 10, min(len(of_kind) // 2, _MIN_HELD_OUT))]
        folds[held_out[0::2]], folds[held_out[1::2]] = HALF_A, HALF_B
    return folds


def _tags(folders: Sequence[bytes | None]) -> NDArray[np.int64]:
    """Return the number of each pair's folder, −1 if the folder has no other pair or too large a share of them."""
    counts = Counter(folder for folder in folders if folder is not None)
    tagged = sorted(folder for folder, count in counts.items() if 2 <= count <= _MAX_FOLDER_SHARE * len(folders))
    numbers = {folder: number for number, folder in enumerate(tagged)}
    return np.asarray([-1 if folder is None else numbers.get(folder, -1) for folder in folders], np.int64)
