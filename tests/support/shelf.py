"""A catalog that grows, with the indexes over it: for tests of what indexes are handed out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmsearch.catalog import Catalog, NewContent, NewMedia
from mmsearch.errors import LockedError
from mmsearch.indexes import Indexes
from mmsearch.records import Segment
from mmsearch.spaces import Profile, Space, load_profile
from mmsearch.types import Modality, View


@dataclass
class Lock:
    """The library's write lock; `held` by another process."""

    held: bool = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        if self.held:
            raise LockedError("another process is writing")
        yield


@dataclass
class Shelf:
    """A catalog that grows, with the indexes over it."""

    catalog: Catalog
    space: Space
    folder: Path
    lock: Lock
    indexes: Indexes
    space_id: int

    def add(self, *names: str, modality: Modality = Modality.IMAGE) -> None:
        contents = []
        for name in names:
            drawn = np.random.default_rng(list(name.encode())).standard_normal(self.space.dim)
            vector = np.asarray(drawn / np.linalg.norm(drawn), np.float32)
            segment = Segment({(self.space_id, View.VISUAL): vector})
            media = NewMedia(name.encode(), 1, 1, "", "0")
            contents.append(NewContent(name.encode(), modality, [segment], [media]))
        self.catalog.commit(contents, "key")

    def take(self, name: str) -> None:
        self.catalog.remove([name.encode()])
        self.catalog.drop_orphans()

    def live(self) -> list[int]:
        return [int(at) for at in self.catalog.embedding_ids(self.space_id, View.VISUAL)]

    def found(self) -> list[int]:
        return [int(at) for at in self.indexes.get(self.space, View.VISUAL).ids()]

    def another(self) -> Indexes:
        return Indexes(self.catalog, self.folder, self.lock)

    def stale(self) -> list[bool]:
        return [line.stale for line in self.indexes.status(Profile("hashing", (self.space,)))]


@contextmanager
def open_shelf(folder: Path) -> Iterator[Shelf]:
    """Open an empty one in a folder, with a space of the hashing profile."""
    space, lock = load_profile("hashing").spaces[0], Lock()
    catalog = Catalog(folder / "catalog.sqlite", create=True)
    space_id = catalog.add_space(space.name, space.fingerprint, space.dim)
    yield Shelf(catalog, space, folder / "indexes", lock, Indexes(catalog, folder / "indexes", lock), space_id)
    catalog.close()
