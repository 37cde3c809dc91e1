"""Adapted spaces with random heads, and libraries of made vectors whose space has scrambled what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

import mmsearch
from mmsearch.catalog import Catalog, NewContent, NewMedia
from mmsearch.catalog.rows import NewSegment
from mmsearch.folder import CATALOG
from mmsearch.metrics import Interval
from mmsearch.records import Origin, Segment, Text
from mmsearch.spaces import Adapted, HeadWeights, Space, embed, load_profile, normalise
from mmsearch.types import Gain, Modality, View

MODEL = "hashing"
WORDS = (
    "lighthouse harbour tractor violin pumpkin glacier lantern bicycle parrot waterfall castle donkey balloon anchor "
    "orchard tunnel mirror saddle canoe drum ladder candle bridge falcon kettle meadow desert attic market forest"
)


def random_head(dim: int, seed: int, entering: int | None = None, size: float = 0.5) -> HeadWeights:
    """Return a head that moves vectors visibly, from another dimension where that is given."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float32]:
        return np.asarray(size * random.standard_normal(shape) / np.sqrt(shape[-1]), np.float32)

    entering = entering or dim
    skip = draw(dim, entering) if entering != dim else None
    return HeadWeights(draw(16, entering), draw(16), draw(dim, 16), draw(dim), skip)


def make_adapted(folder: Path, base: str | Space = "mini", seed: int = 0) -> Path:
    """Write an adapted space with random heads for every view of a base; return its own folder."""
    space = load_profile(base).spaces[0] if isinstance(base, str) else base
    heads = {view: random_head(space.dim, seed + n) for n, view in enumerate(sorted(space.front_ends))}
    return folder / write_heads(folder, dict.fromkeys(heads, space), heads)


def write_heads(folder: Path, bases: Mapping[View, Space], heads: Mapping[View, HeadWeights]) -> str:
    background = {(View.TEXT, View.VISUAL): (0.25, 0.125)}
    return Adapted(bases, "mini", heads, background, {"text→visual": ["mrr", 0.1, 0.2]}).write(folder)


def captions(count: int) -> list[str]:
    """Return sentences of which no two are the same."""
    random = np.random.default_rng(5)
    every = [f"a {one}, a {other} and a {third}" for one, other, third in combinations(WORDS.split(" "), 3)]
    return [every[n] for n in random.permutation(len(every))[:count]]


def turned(vectors: NDArray[np.float32], seed: int, noise: float = 0.02) -> NDArray[np.float32]:
    """Return vectors turned by a random rotation, with a little noise: nothing is lost, and nothing is in its place."""
    random = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(random.standard_normal((vectors.shape[1],) * 2))
    return normalise(vectors @ rotation.T + noise * random.standard_normal(vectors.shape))


def make_photos(library: Path, count: int, *, shuffled: bool = False) -> list[str]:
    """Make a library of captioned photos whose pictures are turned away from their captions; return those.

    Photo n is /made/<n>.jpg. `shuffled` gives every photo the caption of another.
    """
    texts = captions(count)
    with mmsearch.open(library, model=MODEL) as opened:
        profile = opened.seen().profile
    space = profile.spaces[0]
    words = embed(space, View.TEXT, texts)
    pictures = turned(words[np.roll(np.arange(count), count // 3)] if shuffled else words, 7)
    catalog = Catalog(library / CATALOG)
    space_id = catalog.add_space(space.name, space.fingerprint, space.dim)
    contents = []
    for n in range(count):
        vectors = {(space_id, View.VISUAL): pictures[n], (space_id, View.TEXT): words[n]}
        contents.append(_content(n, Modality.IMAGE, [Segment(vectors, texts=(Text(Origin.CAPTION, texts[n]),))], "jpg"))
    catalog.commit(contents, profile.key)
    catalog.close()
    return texts


def make_clips(library: Path, count: int) -> None:
    """Make a library of clips of two moments, whose sounds are turned away from their pictures, and some notes."""
    with mmsearch.open(library, model=MODEL) as opened:
        profile = opened.seen().profile
    space = profile.spaces[0]
    random = np.random.default_rng(3)
    subjects = normalise(random.standard_normal((2 * count, space.dim)))
    seen, heard = normalise(subjects + 0.02 * random.standard_normal(subjects.shape)), turned(subjects, 8)
    catalog = Catalog(library / CATALOG)
    space_id = catalog.add_space(space.name, space.fingerprint, space.dim)
    contents = []
    for n in range(count):
        moments = [
            Segment({(space_id, View.VISUAL): seen[i], (space_id, View.AUDIO): heard[i]}, at * 5.0, at * 5.0 + 5)
            for at, i in enumerate((2 * n, 2 * n + 1))
        ]
        contents.append(_content(n, Modality.VIDEO, moments, "mp4"))
    for n, text in enumerate(captions(40)):
        vector = embed(space, View.TEXT, [text])[0]
        notes = [Segment({(space_id, View.TEXT): vector}, texts=(Text(Origin.PASSAGE, text),))]
        contents.append(_content(count + n, Modality.TEXT, notes, "txt"))
    catalog.commit(contents, profile.key)
    catalog.close()


def outcome() -> SimpleNamespace:
    """Return what training might have come to: heads of the space that is scrambled, and what they gained."""
    gained = Interval(0.5, 0.4, 0.6)
    heads = {view: random_head(64, seed) for seed, view in enumerate(sorted((View.TEXT, View.VISUAL)))}
    gains = (Gain("text→visual", 1_500, "recall@10", 0.25, 0.75, gained),)
    return SimpleNamespace(heads=heads, overall=gained, gains=gains, background={})


def _content(n: int, modality: Modality, segments: Sequence[NewSegment], ending: str) -> NewContent:
    names = [NewMedia(f"/made/{n}.{ending}".encode(), 1, 1, "", "1")]
    return NewContent(b"%020d" % n, modality, segments, names)
