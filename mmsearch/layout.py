"""The folders of a library: their file names, and the links that are followed.

    LIBRARY/                         may be reached through a link
    ├── catalog.sqlite               may be a link to a catalog of mmsearch (see `catalog/opening.py`)
    ├── write.lock                   is never a link
    ├── indexes/                     may be a link to a folder that is empty or has this library's marker
    │   ├── .mmsearch                the marker, with the library's id
    │   └── 1/SPACE-DIGEST/          one folder for each model, in it one for each space
    │       ├── visual/              manifest.json, base-000001-000.faiss, ...
    │       └── visual.bank.npz
    └── adapted/                     as `indexes`
        └── FINGERPRINT/             spec.json, heads.npz

A user may link `indexes` to a faster disk. Links in any other position are never followed, neither for reading nor for
writing, and nothing behind them is removed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mmsearch.errors import LinkError
from mmsearch.files import (
    Layout,
    find_foreign,
    is_link,
    read_bounded,
    remove_own,
    remove_temporary,
    subfolders,
    write_whole,
)

MARKER = ".mmsearch"
_VIEWS = "visual|audio|text"
_INDEX_FILES = r"manifest\.json|(base|delta)-\d{6,}-\d{3,}\.faiss|deleted-\d{6,}\.npy"
_BANK_FILES = rf"({_VIEWS})\.bank\.npz"
_SPACE_FILES = r"spec\.json|heads\.npz"
_ID_BYTES = 64


def _with_temporary(files: str) -> re.Pattern[str]:
    """Return a pattern of these names and of the temporary names of `write_whole` and the index store."""
    return re.compile(rf"({files})(\.tmp)?|\.({files})(\.tmp)?\.\d+")


INDEX = Layout(_with_temporary(_INDEX_FILES))
"""One index: the folder of a view."""
_SPACE = Layout(_with_temporary(_BANK_FILES), {re.compile(_VIEWS): INDEX})
_PROFILE = Layout(folders={re.compile(r"[A-Za-z0-9_-]{1,40}-[0-9a-f]{16}"): _SPACE})
_BEFORE_PROFILES = Layout(_SPACE.files, {**_PROFILE.folders, **_SPACE.folders})
"""The folder of a space in versions that supported only one model per library."""
_MARKER_TEMPORARY = re.compile(rf"\.{re.escape(MARKER)}\.\d+")
"""The temporary names of the marker. The marker itself is never removed."""
INDEXES = Layout(
    _MARKER_TEMPORARY, {re.compile(r"\d+"): _PROFILE, re.compile(r"[A-Za-z0-9_-]{1,40}-\w+"): _BEFORE_PROFILES}
)
HEADS = Layout(_with_temporary(_SPACE_FILES))
BUILDING = ".building-"
"""Prefix of the name of a space's folder while it is written."""
ADAPTED = Layout(
    _MARKER_TEMPORARY,
    {
        re.compile(r"[0-9a-f]{16}"): HEADS,
        re.compile(rf"{re.escape(BUILDING)}\w+"): Layout(HEADS.files, {re.compile("before"): HEADS}),
    },
)


@dataclass(frozen=True, slots=True)
class OwnFolder:
    """A folder of a library in which only mmsearch writes: `indexes` or `adapted`.

    `library_id` returns the library's random id, "" if it has none yet. The marker is compared with it if the folder is
    a link.
    """

    path: Path
    layout: Layout
    library_id: Callable[[], str]

    def check(self, below: Path | None = None) -> None:
        """Raise `LinkError` if the folder is a link to a folder of something else, or if `below` isn't usable.

        `below` is a subfolder: every existing folder on the way to it must be real, and its entries that have names of
        mmsearch's files must be regular files.
        """
        if is_link(self.path) and not (self._is_marked() or self._is_empty()):
            raise LinkError(
                f"{self.path} is a link to a folder that isn't this library's; remove the link, or let it point to an "
                "empty folder"
            )
        foreign = find_foreign(below, self.path, self.layout) if below is not None else None
        if foreign is not None:
            raise LinkError(f"{foreign} is a link, or not mmsearch's own; remove it and run 'mmsearch index' again")

    def prepare(self) -> None:
        """Make the folder and write its marker, so that it can be moved and linked later. The caller holds the lock.

        Raises `LinkError`, `OSError`.
        """
        self.check()
        library_id = self.library_id()
        if library_id and not self._is_marked():
            if not self.path.is_dir():  # a link to an empty folder is a folder as well
                self.path.mkdir(parents=True)
            write_whole(self.path / MARKER, library_id.encode())

    def remove(self, folder: Path, unwanted: Callable[[str], bool]) -> None:
        """Remove mmsearch's files whose names are `unwanted` from this folder or a subfolder.

        The caller holds the lock. Files behind links, and files with other names, stay.
        """
        layout: Layout | None = self.layout
        for part in folder.relative_to(self.path).parts:
            layout = layout.below(part) if layout else None
        with suppress(LinkError):
            self.check()
            if layout is not None:
                remove_own(folder, self.path, layout, unwanted)

    def remove_temporary(self) -> None:
        """Remove the temporary files of killed processes. The caller holds the lock."""
        with suppress(LinkError):
            self.check()
            remove_temporary(self.path, self.path, self.layout)

    def folders(self, layout: Layout) -> Iterator[Path]:
        """Yield the subfolders, at any depth, that have this layout and are reached without a link."""
        with suppress(LinkError):
            self.check()
            yield from _folders(self.path, self.path, self.layout, layout)

    def _is_marked(self) -> bool:
        try:
            marker = read_bounded(self.path / MARKER, _ID_BYTES, follow_links=False)
        except OSError:
            return False
        return bool(marker) and marker == self.library_id().encode()

    def _is_empty(self) -> bool:
        try:
            return not os.listdir(self.path)  # noqa: PTH208
        except OSError:
            return False


def _folders(folder: Path, root: Path, own: Layout, wanted: Layout) -> Iterator[Path]:
    for name, below in subfolders(folder, root, own):
        if below is wanted:
            yield folder / name
        yield from _folders(folder / name, root, below, wanted)
