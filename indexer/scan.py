"""Walk the roots: which files are media, what they look like from outside, and which folders were seen completely."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from indexer.changes import Entry, look_at
from indexer.links import Identity, Links, Top, identity
from indexer.roots import CACHE_MARK, is_left_out, path_from
from mmsearch.catalog import Root
from mmsearch.errors import MediaError, why
from mmsearch.media import HEAD_BYTES, Sidecars, by_name, find_sidecars, open_regular, resolve
from mmsearch.types import Failure, Stage


@dataclass(slots=True)
class Scan:
    """One walk over the roots. Iterate it once; what it noticed stands in its attributes afterwards.

    Real folders are walked before linked ones and each only once, so that loops of links end. `Links` says which links
    aren't followed; each of them is a failure, and what the catalog holds below it stays. A root below another one is
    walked by itself, with its own globs. `forgotten` are paths that no walk enters.
    """

    roots: Sequence[Root]
    skip: Path | None = None
    """A folder to leave out wherever it stands: the library's own."""
    forgotten: Container[bytes] = frozenset()
    failures: list[Failure] = field(default_factory=list)
    devices: dict[bytes, str] = field(default_factory=dict)
    """Every folder that was walked, with its device."""
    occupied: set[bytes] = field(default_factory=set)
    """Folders at or below which media were found."""
    incomplete: set[bytes] = field(default_factory=set)
    """Folders and files that couldn't be looked at, so that nothing there is known to be gone."""
    _visited: set[Identity] = field(default_factory=set)
    _links: Links = field(init=False)
    _globs: dict[bytes, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self._globs = dict(self.roots)
        self._links = Links.of(self._globs, self.skip)

    def __iter__(self) -> Iterator[Entry]:
        """Yield the media below the roots, folder by folder, in byte order within each."""
        self._leave_out_the_library()
        found: set[bytes] = set()
        for entry in self._walk():
            if len(self.roots) > 1:  # only then can a file be met twice: by its folder and by its own name
                if entry.path in found:
                    continue
                found.add(entry.path)
            yield entry

    def _leave_out_the_library(self) -> None:
        if self.skip is not None and self.skip.exists():
            own = identity(self.skip.stat())
            roots = (os.stat(root) for root in self._globs if os.path.exists(root))  # noqa: PTH110, PTH116
            if own not in map(identity, roots):  # unless it is what is asked for
                self._visited.add(own)

    def _walk(self) -> Iterator[Entry]:
        """Walk the real folders of all roots, then the linked ones."""
        linked: deque[tuple[Top, bytes]] = deque()
        for root in self._globs:
            if _is_folder(root):
                yield from self._walk_root(root, linked)
            elif not os.path.lexists(root):
                self._fail(root, "it vanished while the run began; run 'mmsearch index' again")
            elif reason := _refused(root):
                self._fail(root, reason)
            else:
                yield from self._single(root)
        while linked:
            parent, link = linked.popleft()
            try:
                top = self._links.follow(link, parent)
            except OSError as error:
                self._unseen(link, error)
                continue
            if isinstance(top, Top):
                yield from self._walk_below(top, linked)
            else:
                self._refuse(link, top)

    def _walk_root(self, root: bytes, linked: deque[tuple[Top, bytes]]) -> Iterator[Entry]:
        try:
            top = self._links.top(root)
        except OSError as error:
            self._unseen(root, error)
            return
        if top.device in self._links.kernel:
            self._refuse(root, "it shows the system's own state, which is no media; name another folder")
            return
        yield from self._walk_below(top, linked)

    def _single(self, root: bytes) -> Iterator[Entry]:
        folder, name = os.path.split(root)
        try:
            beside = os.listdir(folder or b".")  # noqa: PTH208  paths are bytes here
        except OSError:  # a folder may let us open a file and yet not list it
            beside = [name, *map(os.path.basename, find_sidecars(root))]
        with suppress(OSError):
            self.devices[folder] = str(os.stat(folder or b".").st_dev)  # noqa: PTH116
        yield from self._media_in(folder, [name], beside, named=True)

    def _walk_below(self, top: Top, linked: deque[tuple[Top, bytes]]) -> Iterator[Entry]:
        pending = [top.path]
        while pending:
            folder = pending.pop()
            listed = self._list(folder, top)
            files, below = list[bytes](), list[bytes]()
            for entry in listed or ():
                if self._is_left_out(top.root, entry.path, entry.name):
                    continue
                try:
                    if not entry.is_dir():
                        files.append(entry.name)
                    elif entry.path in self._globs:
                        continue  # it is walked as a root
                    elif entry.is_symlink():
                        linked.append((top, entry.path))
                    else:
                        below.append(entry.path)
                except OSError as error:
                    self._unseen(entry.path, error)
            yield from self._media_in(folder, files, files)
            pending += reversed(below)

    def _list(self, folder: bytes, top: Top) -> list[os.DirEntry[bytes]] | None:
        """Return the sorted entries of a folder, or None where it was walked before or isn't to be walked."""
        try:
            status = os.stat(folder)  # noqa: PTH116  paths are bytes here
            if identity(status) in self._visited:
                return None
            if self._links.is_above(status, top):
                self._refuse(folder, "it is a folder above, mounted here again; it isn't walked")
                return None
            if self._links.is_state(status, top):
                self.incomplete.add(folder)
                return None
            self._visited.add(identity(status))
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._unseen(folder, error)
            return None
        self.devices[folder] = str(status.st_dev)
        return None if any(entry.name == CACHE_MARK for entry in listed) else listed

    def _is_left_out(self, root: bytes, path: bytes, name: bytes) -> bool:
        return path in self.forgotten or is_left_out(name, path_from(root, path), self._globs[root])

    def _media_in(
        self, folder: bytes, files: Sequence[bytes], beside: Sequence[bytes], *, named: bool = False
    ) -> Iterator[Entry]:
        """Yield the media among the files of a folder; `named` are taken whatever they are called."""
        known = Sidecars.among(beside)
        sidecars_of = {name: known.of(name) for name in beside} if known else {}
        captions = {sidecar for own in sidecars_of.values() for sidecar in own}
        for name in files:
            modality = by_name(name)
            if not named and (modality is None or name in captions):
                continue
            sidecars = [sidecar for sidecar in sidecars_of.get(name, ()) if self._is_file(folder, sidecar)]
            entry = self._entry(folder, name, sidecars)
            if entry is not None:
                self._occupy(folder)
                yield entry

    def _is_file(self, folder: bytes, name: bytes) -> bool:
        try:
            status = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118  paths are bytes here
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(status.st_mode) and status.st_dev not in self._links.kernel

    def _entry(self, folder: bytes, name: bytes, sidecars: Sequence[bytes]) -> Entry | None:
        path = os.path.join(folder, name)  # noqa: PTH118
        beside = [os.path.join(folder, sidecar) for sidecar in sidecars]  # noqa: PTH118
        try:
            return look_at(path, beside, self.devices.get(folder), self._links.kernel)
        except OSError as error:
            self._unseen(path, error)
            return None

    def _occupy(self, folder: bytes) -> None:
        while folder not in self.occupied:
            self.occupied.add(folder)
            folder = os.path.dirname(folder)  # noqa: PTH120

    def _unseen(self, path: bytes, error: OSError) -> None:
        """Note what couldn't be looked at: nothing at or below it is known to be gone.

        That holds for what vanished since its folder was listed, too: under its new name it may have been missed. What
        a link led to is gone, though, if the link leads nowhere.
        """
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            if not os.path.lexists(path):
                self.incomplete.add(path)
            elif by_name(path) and os.path.islink(path):  # noqa: PTH114
                self._fail(path, "a link that leads nowhere; mend or remove it")
        else:
            self._refuse(path, f"it can't be looked at: {why(error, 'check the disk')}")

    def _refuse(self, path: bytes, reason: str) -> None:
        self.incomplete.add(path)
        self._fail(path, reason)

    def _fail(self, path: bytes, reason: str) -> None:
        self.failures.append(Failure(Path(os.fsdecode(path)), Stage.SCAN, reason))


def _is_folder(path: bytes) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  paths are bytes here


def _refused(path: bytes) -> str | None:
    """Return why a file that was named by itself can't be taken in, None if it can; its content may say its kind."""
    try:
        with open_regular(path) as file:
            known = resolve(path, file.read(HEAD_BYTES))
    except (MediaError, OSError):
        return None if by_name(path) else "not a file that can be read"
    return None if known else "not a kind of file that mmsearch knows; see the README for the list"
