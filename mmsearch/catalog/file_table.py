"""The paths of a library in memory, so that folders and names of a million files are compared in some milliseconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog.path_patterns import SEPARATOR, folded, folded_glob, name_test
from mmsearch.filters.conditions import Name

_END = b"\0"
"""What no path has in it."""
_AT_ONCE = 5_000
_WILD = re.compile(r"[*?\[\]]")

Rows = NDArray[np.intp]


class FileTable:
    """The folders and names of n files, row i of each."""

    def __init__(self, paths: Sequence[bytes]) -> None:
        """Take n absolute paths."""
        codes: dict[bytes, int] = {}
        self._folder = np.empty(len(paths), np.int32)
        names = bytearray()
        starts = np.empty(len(paths) + 1, np.int64)
        rest, at = iter(paths), 0
        while part := list(islice(rest, _AT_ONCE)):
            split = [path.rpartition(SEPARATOR) for path in part]
            self._folder[at : at + len(part)] = [codes.setdefault(folder, len(codes)) for folder, _, _ in split]
            joined = _folded([name for _, _, name in split])
            starts[at : at + len(part)] = np.cumsum([0, *(len(name) + 1 for name in joined[:-1])]) + len(names)
            names += _END.join([*joined, b""])
            at += len(part)
        starts[at] = len(names)
        self._folders = list(codes)
        self._names, self._starts = bytes(names), starts

    def in_folders(self, test: Callable[[bytes], bool]) -> NDArray[np.bool_]:
        """Return (n,) whether a test holds for the folder of each file."""
        held = np.fromiter(map(test, self._folders), np.bool_, len(self._folders))
        return held[self._folder]

    def named(self, name: Name) -> NDArray[np.bool_]:
        """Return (n,) whether the name of each file matches."""
        glob = folded_glob(name.glob)
        rows = self._possible(_WILD.split(glob), is_exact=not _WILD.search(glob))
        test = name_test(name)
        simple = set(_WILD.findall(glob)) <= {"*"} and glob.count("*") <= 1
        if not simple:
            rows = np.asarray([row for row in rows.tolist() if test(self._name(row))], np.intp)
        mask = np.zeros(len(self._folder), np.bool_)
        mask[rows] = True
        return mask

    def _name(self, row: int) -> str:
        return self._names[self._starts[row] : self._starts[row + 1] - 1].decode("utf-8", "surrogateescape")

    def _possible(self, literals: Sequence[str], *, is_exact: bool) -> Rows:
        """Return the rows of names that begin with the first literal, end with the last, and have room for both.

        All of them where a glob has one `*` and no other sign. If both are empty, those that have the longest one
        between them in it.
        """
        encoded = [literal.encode("utf-8", "surrogateescape") for literal in literals]
        begin, end = encoded[0], b"" if is_exact else encoded[-1]
        starts, ends = self._starts[:-1], self._starts[1:] - 1
        inner = max(encoded[1:-1], key=len, default=b"")
        if inner and not begin and not end:
            return self._with(inner)
        lengths = ends - starts
        rows = np.flatnonzero(lengths == len(begin) if is_exact else lengths >= len(begin) + len(end))
        bytes_of = np.frombuffer(self._names, np.uint8)
        for n, byte in enumerate(begin):
            rows = rows[bytes_of[starts[rows] + n] == byte]
        for n, byte in enumerate(reversed(end), 1):
            rows = rows[bytes_of[ends[rows] - n] == byte]
        return rows

    def _with(self, literal: bytes) -> Rows:
        """Return the rows of names that have a literal in them."""
        at = np.fromiter((found.start() for found in re.finditer(re.escape(literal), self._names)), np.int64)
        return np.unique(np.searchsorted(self._starts, at, side="right") - 1)


def _folded(names: Sequence[bytes]) -> list[bytes]:
    """Return names as globs are compared with them, as UTF-8: most are ASCII, and are folded together."""
    joined = _END.join(names)
    if joined.isascii():
        return joined.lower().split(_END)
    return [folded(name).encode("utf-8", "surrogateescape") for name in names]
