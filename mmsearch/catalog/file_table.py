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
_WILD = re.compile(r"[*?]")

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
        rows, test = self._possible(glob), name_test(name)
        if "?" in glob or "[" in glob or glob.count("*") > 1:
            rows = np.asarray([row for row in rows.tolist() if test(self._name(row))], np.intp)
        mask = np.zeros(len(self._folder), np.bool_)
        mask[rows] = True
        return mask

    def _name(self, row: int) -> str:
        return self._names[self._starts[row] : self._starts[row + 1] - 1].decode("utf-8", "surrogateescape")

    def _possible(self, glob: str) -> Rows:
        """Return the rows of names that begin and end as a glob does: just those it matches if it has at most one `*`.

        Where it begins and ends with signs, they are those that have the longest literal between the signs in them.
        """
        head, _, rest = glob.partition("[")
        literals = _WILD.split(head)
        behind = _WILD.split(rest.rpartition("]")[2] if "]" in rest else "") if "[" in glob else literals
        is_exact = glob == literals[0]
        begin, end, inner = (
            part.encode("utf-8", "surrogateescape")
            for part in (literals[0], "" if is_exact else behind[-1], max(literals[1:-1], key=len, default=""))
        )
        if inner and not begin and not end:
            return self._with(inner)
        starts, ends = self._starts[:-1], self._starts[1:] - 1
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
