"""How a filter's folders and names are compared with paths: in any case of letters, however accents are encoded."""

from __future__ import annotations

import fnmatch
import os
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from mmsearch.filters.conditions import And, Expression, Name, Not, Or, Under

SEPARATOR = os.fsencode(os.sep)


def composed(path: bytes) -> str:
    """Return a path as text whose accents are part of their letters: macOS takes them apart."""
    return unicodedata.normalize("NFC", os.fsdecode(path))


@lru_cache(maxsize=256)
def folder_test(under: Under) -> Callable[[bytes], bool]:
    """Return the test of whether a folder is the one that a filter names, or lies below it."""
    wanted = unicodedata.normalize("NFC", under.folder)
    if os.path.isabs(wanted):  # noqa: PTH117
        top = wanted.rstrip(os.sep)
        return lambda folder: f"{composed(folder)}{os.sep}".startswith(f"{top}{os.sep}")
    parts = (re.escape(part).replace(r"\*", _ANY).replace(r"\?", _ONE) for part in wanted.casefold().split("/"))
    pattern = re.compile(f"(?:^|{_SEP}){_SEP.join(parts)}(?:{_SEP}|$)")
    return lambda folder: pattern.search(composed(folder).casefold()) is not None


_SEP = re.escape(os.sep)
_ANY, _ONE = f"[^{_SEP}]*", f"[^{_SEP}]"


def folded(name: bytes) -> str:
    """Return a name as globs are compared with it."""
    return composed(name).casefold()


def folded_glob(glob: str) -> str:
    """Return a glob as it is compared with folded names."""
    return unicodedata.normalize("NFC", glob).casefold()


@lru_cache(maxsize=256)
def name_test(name: Name) -> Callable[[str], bool]:
    """Return the test of whether a folded name matches a filter's glob, or is it letter by letter."""
    glob = folded_glob(name.glob)
    pattern = re.compile(fnmatch.translate(glob))
    return lambda text: pattern.match(text) is not None or text == glob


def holds_for_path(expression: Expression, path: bytes) -> bool | None:
    """Return whether an expression holds for a content of this one path; None where that isn't all it asks for."""
    folder, _, name = path.rpartition(SEPARATOR)
    match expression:
        case Under():
            return folder_test(expression)(folder)
        case Name():
            return name_test(expression)(folded(name))
        case Not(part):
            held = holds_for_path(part, path)
            return None if held is None else not held
        case And(parts):
            several = {holds_for_path(part, path) for part in parts}
            return False if False in several else None if None in several else True
        case Or(parts):
            several = {holds_for_path(part, path) for part in parts}
            return True if True in several else None if None in several else False
    return None


def names_paths(expression: Expression) -> bool:
    """Return whether an expression asks for folders or names."""
    match expression:
        case Under() | Name():
            return True
        case Not(part):
            return names_paths(part)
        case And(parts) | Or(parts):
            return any(map(names_paths, parts))
    return False
