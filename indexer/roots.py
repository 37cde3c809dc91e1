"""Where a run looks: the roots that it scans, those that are missing, and what the library remembers of them.

A root is a file or folder that a run was asked to take in; the library remembers it with the globs that are left out
there, so that a run without paths refreshes all of them. A path that was forgotten stays out of every run above it
until it is named itself.
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
"""Folders that systems and network storage fill by themselves. Hidden ones (".", "._*") are left out as well."""
_SEPARATOR = os.fsencode(os.sep)


@dataclass(frozen=True)
class Scope:
    """Where a run looks."""

    scanned: tuple[Root, ...] = ()
    missing: tuple[bytes, ...] = ()
    """Paths that the library knows and that aren't there: what it holds there is gone, unless a disk is missing."""
    watched: frozenset[bytes] = frozenset()
    """All roots that the library remembers. Where one of them, a folder, shows nothing, nothing is gone."""
    forgotten: frozenset[bytes] = frozenset()
    unreached: frozenset[bytes] = frozenset()
    """Roots that lie below a scanned one and that its walk leaves out: their media aren't gone for that."""
    remember: tuple[Root, ...] = ()
    drop: tuple[bytes, ...] = ()
    """Roots and forgotten paths that are obsolete from this run on."""

    @cached_property
    def paths(self) -> frozenset[bytes]:
        """The paths that the run is about: those that it scans, and those that are missing."""
        return frozenset(self.missing).union(root.path for root in self.scanned)


def is_left_out(name: bytes, below: bytes, globs: Iterable[str]) -> bool:
    """Return whether a walk leaves out an entry of a folder; `below` is its path from the root on."""
    if name.startswith(b".") or name in _NEVER:
        return True
    last, path = os.fsdecode(name), os.fsdecode(below).replace(os.sep, "/")
    trimmed = (glob.removeprefix("./").rstrip("/") for glob in globs)
    return any(fnmatchcase(last, glob) or fnmatchcase(path, glob) for glob in trimmed)


def path_from(root: bytes, path: bytes) -> bytes:
    """Return the path below a root from there on."""
    return path[len(root.rstrip(_SEPARATOR)) + 1 :]


def steps(path: bytes, root: bytes = b"") -> Iterator[bytes]:
    """Yield a path and the folders that hold it, upwards: those below a root, or all of them."""
    while len(path) > len(root):
        yield path
        above = os.path.dirname(path)  # noqa: PTH120  paths are bytes here
        if above == path:
            return
        path = above


def folders_above(path: bytes) -> Iterator[bytes]:
    """Yield the folders that hold a path, upwards."""
    return islice(steps(path), 1, None)


def check_paths(catalog: Catalog, paths: Iterable[Path]) -> list[bytes]:
    """Return the absolute paths. Raises `UsageError` where one neither exists nor is known to the library."""
    absolute = list(dict.fromkeys(os.path.abspath(os.fsencode(path)) for path in paths))  # noqa: PTH100  bytes
    for path in absolute:
        if not os.path.lexists(path) and not _is_known(catalog, path):
            raise UsageError(f"{os.fsdecode(path)} doesn't exist; nothing was changed")
    return absolute


def choose_scope(catalog: Catalog, paths: Sequence[Path], exclude: Sequence[str], own: Path) -> Scope:
    """Return where a run looks: at the paths, or without any at all roots that the library remembers."""
    if paths:
        return named_scope(catalog, paths, exclude, own)
    if exclude:
        raise UsageError("name the files or folders in which something is to be left out")
    return remembered_scope(catalog)


def remembered_scope(catalog: Catalog) -> Scope:
    """Return where a run looks that refreshes all roots. Raises `UsageError` where the library remembers none."""
    roots = catalog.roots()
    if not roots:
        raise UsageError("nothing to index: the library remembers no folder yet; name at least one file or folder")
    paths = frozenset(root.path for root in roots)
    missing = frozenset(path for path in paths if not os.path.lexists(path))
    there = tuple(root for root in roots if root.path not in missing)
    return Scope(there, tuple(sorted(missing)), paths, catalog.forgotten())


def named_scope(catalog: Catalog, paths: Iterable[Path], exclude: Sequence[str] = (), own: Path | None = None) -> Scope:
    """Return where a run looks that is to take in these paths, and what the library remembers from then on.

    Naming a path says all about it: the globs given now replace those remembered, roots below it that it takes in are
    remembered by it alone, and if it was forgotten, it isn't any more. `own` is the library's folder.
    Raises `UsageError` where a path neither exists nor is known.
    """
    absolute = check_paths(catalog, paths)
    named = {path: Root(path, tuple(exclude)) for path in absolute if os.path.lexists(path)}
    missing = tuple(path for path in absolute if path not in named)
    held, forgotten = {root.path: root for root in catalog.roots()}, catalog.forgotten()
    walks = _Walks(forgotten - named.keys(), os.fsencode(own.absolute()) if own else None)
    above = {path: [named[folder] for folder in folders_above(path) if folder in named] for path in held}
    reached = {path for path, tops in above.items() if any(walks.takes_in(top, path) for top in tops)}
    others = {path: root for path, root in (held | named).items() if path not in reached}
    remember = tuple(root for root in named.values() if not _is_covered(root, others, walks))
    remembered = {root.path for root in remember}
    drop = ((forgotten | held.keys()) & named.keys() | reached) - remembered
    watched = (held.keys() | remembered) - drop
    unreached = {path for path, tops in above.items() if tops} - reached - named.keys()
    scanned = tuple(named.values())
    return Scope(
        scanned, missing, frozenset(watched), walks.forgotten, frozenset(unreached), remember, tuple(sorted(drop))
    )


@dataclass(frozen=True, slots=True)
class _Walks:
    """Tells where walks go."""

    forgotten: frozenset[bytes]
    own: bytes | None

    def takes_in(self, root: Root, path: bytes) -> bool:
        """Return whether the walk of a root comes to a path below it. A link on the way may not be followed."""
        if not os.path.isdir(path) and by_name(path) is None:  # noqa: PTH112
            return False
        return all(self._enters(root, step) for step in steps(path, root.path))

    def _enters(self, root: Root, step: bytes) -> bool:
        folder, name = os.path.split(step)
        if step in self.forgotten or step == self.own or is_left_out(name, path_from(root.path, step), root.exclude):
            return False
        return not os.path.islink(step) and not os.path.lexists(os.path.join(folder, CACHE_MARK))  # noqa: PTH114, PTH118


def _is_covered(root: Root, others: Mapping[bytes, Root], walks: _Walks) -> bool:
    """Return whether what a root takes in is what another one, above it, takes in there anyway."""
    if root.exclude:
        return False
    is_folder = os.path.isdir(root.path)  # noqa: PTH112
    above = (others[folder] for folder in folders_above(root.path) if folder in others)
    return any(walks.takes_in(other, root.path) for other in above if not (is_folder and other.exclude))


def _is_known(catalog: Catalog, path: bytes) -> bool:
    """Return whether the library holds anything at or below a path, or remembers it as a root."""
    if next(catalog.media_under(path), None) is not None or catalog.failures_under(path):
        return True
    return any(path in steps(root.path) for root in catalog.roots())
