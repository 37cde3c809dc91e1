"""The scope of a run: the roots that it scans, missing roots, and the roots that the library remembers.

A root is a file or folder that a run was asked to index. The library remembers it with its exclude globs, so that a run
without paths refreshes all roots. A forgotten path is left out of every run over a folder above it, until a run names
it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import islice
from pathlib import Path

from mmsearch.catalog import Catalog, Root
from mmsearch.errors import UsageError
from mmsearch.media import by_name

CACHE_MARK = b"CACHEDIR.TAG"  # https://bford.info/cachedir/
_NEVER = frozenset(
    {b"@eaDir", b"__pycache__", b"$RECYCLE.BIN", b"#recycle", b"System Volume Information", b"lost+found"}
)
"""Folders that systems and network storage fill themselves. Hidden ones (".", "._*") are left out as well."""
_SEPARATOR = os.fsencode(os.sep)


@dataclass(frozen=True)
class Scope:
    """The paths that a run scans, and the changes to the remembered roots."""

    scanned: tuple[Root, ...] = ()
    missing: tuple[bytes, ...] = ()
    """Known paths that don't exist: their media are deleted, unless a disk may be unmounted."""
    watched: frozenset[bytes] = frozenset()
    """All roots that the library remembers. If such a folder shows nothing, its media are kept."""
    forgotten: frozenset[bytes] = frozenset()
    unreached: frozenset[bytes] = frozenset()
    """Roots below a scanned root that its walk doesn't enter; their media are kept."""
    remember: tuple[Root, ...] = ()
    drop: tuple[bytes, ...] = ()
    """Roots and forgotten paths that are obsolete from this run on."""

    @cached_property
    def paths(self) -> frozenset[bytes]:
        """The scanned and the missing paths."""
        return frozenset(self.missing).union(root.path for root in self.scanned)


def is_left_out(name: bytes, below: bytes, globs: Iterable[str]) -> bool:
    """Return whether a walk leaves out a folder entry; `below` is its path relative to the root."""
    if name.startswith(b".") or name in _NEVER:
        return True
    last, path = os.fsdecode(name), os.fsdecode(below).replace(os.sep, "/")
    trimmed = (glob.removeprefix("./").rstrip("/") for glob in globs)
    return any(fnmatchcase(last, glob) or fnmatchcase(path, glob) for glob in trimmed)


def path_from(root: bytes, path: bytes) -> bytes:
    """Return a path below a root relative to that root."""
    return path[len(root.rstrip(_SEPARATOR)) + 1 :]


def steps(path: bytes, root: bytes = b"") -> Iterator[bytes]:
    """Yield a path and the folders that contain it, innermost first: those below a root, or all of them."""
    while len(path) > len(root):
        yield path
        above = os.path.dirname(path)  # noqa: PTH120  paths are bytes here
        if above == path:
            return
        path = above


def folders_above(path: bytes) -> Iterator[bytes]:
    """Yield the folders that contain a path, innermost first."""
    return islice(steps(path), 1, None)


def check_paths(catalog: Catalog, paths: Iterable[Path]) -> list[bytes]:
    """Return the absolute paths. Raises `UsageError` if one neither exists nor is known to the library."""
    absolute = list(dict.fromkeys(os.path.abspath(os.fsencode(path)) for path in paths))  # noqa: PTH100  bytes
    for path in absolute:
        if not os.path.lexists(path) and not _is_known(catalog, path):
            raise UsageError(f"{os.fsdecode(path)} doesn't exist; nothing was changed")
    return absolute


def choose_scope(catalog: Catalog, paths: Sequence[Path], exclude: Sequence[str], own: Path) -> Scope:
    """Return the scope of a run over these paths; without paths, over all roots that the library remembers."""
    if paths:
        return named_scope(catalog, paths, exclude, own)
    if exclude:
        raise UsageError("name the files or folders that --exclude applies to")
    return remembered_scope(catalog)


def remembered_scope(catalog: Catalog) -> Scope:
    """Return the scope of a run over all roots. Raises `UsageError` if the library remembers none."""
    roots = catalog.roots()
    if not roots:
        raise UsageError("nothing to index: the library remembers no folder yet; name at least one file or folder")
    paths = frozenset(root.path for root in roots)
    missing = frozenset(path for path in paths if not os.path.lexists(path))
    existing = tuple(root for root in roots if root.path not in missing)
    return Scope(existing, tuple(sorted(missing)), paths, catalog.forgotten())


def named_scope(catalog: Catalog, paths: Iterable[Path], exclude: Sequence[str] = (), own: Path | None = None) -> Scope:
    """Return the scope of a run over these paths, with the roots that the library remembers from then on.

    A named path replaces what was remembered about it: its exclude globs are those given now, remembered roots below
    that its walk enters are dropped, and it is no longer forgotten. `own` is the library's folder.
    Raises `UsageError` if a path neither exists nor is known.
    """
    absolute = check_paths(catalog, paths)
    named = {path: Root(path, tuple(exclude)) for path in absolute if os.path.lexists(path)}
    missing = tuple(path for path in absolute if path not in named)
    earlier, forgotten = {root.path: root for root in catalog.roots()}, catalog.forgotten()
    walks = _Walks(forgotten - named.keys(), os.fsencode(own.absolute()) if own else None)
    above = {path: [named[folder] for folder in folders_above(path) if folder in named] for path in earlier}
    reached = {path for path, tops in above.items() if any(walks.takes_in(top, path) for top in tops)}
    others = {path: root for path, root in (earlier | named).items() if path not in reached}
    remember = tuple(root for root in named.values() if not _is_covered(root, others, walks))
    remembered = {root.path for root in remember}
    drop = ((forgotten | earlier.keys()) & named.keys() | reached) - remembered
    watched = (earlier.keys() | remembered) - drop
    unreached = {path for path, tops in above.items() if tops} - reached - named.keys()
    scanned = tuple(named.values())
    return Scope(
        scanned, missing, frozenset(watched), walks.forgotten, frozenset(unreached), remember, tuple(sorted(drop))
    )


@dataclass(frozen=True, slots=True)
class _Walks:
    """Tells which folders walks enter."""

    forgotten: frozenset[bytes]
    own: bytes | None

    def takes_in(self, root: Root, path: bytes) -> bool:
        """Return whether the walk of a root reaches a path below it. Links on the way count as not followed."""
        if not os.path.isdir(path) and by_name(path) is None:  # noqa: PTH112
            return False
        return all(self._enters(root, step) for step in steps(path, root.path))

    def _enters(self, root: Root, step: bytes) -> bool:
        folder, name = os.path.split(step)
        if step in self.forgotten or step == self.own or is_left_out(name, path_from(root.path, step), root.exclude):
            return False
        return not os.path.islink(step) and not os.path.lexists(os.path.join(folder, CACHE_MARK))  # noqa: PTH114, PTH118


def _is_covered(root: Root, others: Mapping[bytes, Root], walks: _Walks) -> bool:
    """Return whether another root above this one indexes the same files anyway."""
    if root.exclude:
        return False
    is_folder = os.path.isdir(root.path)  # noqa: PTH112
    above = (others[folder] for folder in folders_above(root.path) if folder in others)
    return any(walks.takes_in(other, root.path) for other in above if not (is_folder and other.exclude))


def _is_known(catalog: Catalog, path: bytes) -> bool:
    """Return whether the library has any media or failure at or below a path, or a root there."""
    if next(catalog.media_under(path), None) is not None or catalog.failures_under(path):
        return True
    return any(path in steps(root.path) for root in catalog.roots())
