"""Judged queries, one JSON object a line: a query and the files that are relevant to it.

    {"query": "red car", "relevant": ["cars/red.jpg"], "in": ["image"]}
    {"query": {"path": "bark.wav"}, "relevant": ["dog.mp4", "dog.jpg"]}

Paths are relative to the file that contains them. `in` restricts the modality of hits, `views` the views that are
searched (`visual`, `audio`, `text`). Other keys are ignored.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from mmsearch.errors import MediaError, QueryError, UsageError, one_line, unwritable
from mmsearch.files import write_whole
from mmsearch.media import HEAD_BYTES, open_regular, resolve
from mmsearch.model_views import OpenLibrary
from mmsearch.paths import expand
from mmsearch.search.query import Query, combined
from mmsearch.types import Modality, Term, View

Name = TypeVar("Name", bound=StrEnum)

_MAX_BYTES = 2**28
_EXAMPLE = '{"query": "red car", "relevant": ["car.jpg"]}'
_OWN_VIEWS = {
    Modality.IMAGE: (View.VISUAL,),
    Modality.AUDIO: (View.AUDIO,),
    Modality.VIDEO: (View.AUDIO, View.VISUAL),
}
"""The views of a content that its captions don't belong to."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A query, the modality that asks it, and what is relevant: absolute paths as `os.fsencode` bytes.

    `where` names file and line in messages, `kinds` are those among which the query looks (none: all).
    """

    query: Query
    modality: Modality
    relevant: tuple[bytes, ...]
    where: str
    kinds: frozenset[Modality] = frozenset()


def read_judged(file: str | Path) -> list[Judged]:
    """Return the judged queries of a file, in their order.

    Raises `UsageError`, which names file and line, for the first invalid line, and if there is no query at all.
    """
    path = expand(file)
    if not path.exists():
        raise UsageError(f"{file}: there is no such file; write one, or let --synthesize do it")
    try:
        with open_regular(os.fsencode(path)) as opened:
            raw = opened.read(_MAX_BYTES + 1)
    except (MediaError, OSError) as error:
        raise UsageError(f"{file}: {one_line(error)}; name a file of lines such as {_EXAMPLE}") from error
    if len(raw) > _MAX_BYTES:
        raise UsageError(f"{file}: it holds more than {_MAX_BYTES // 2**20} MB; split it")
    folder = os.path.dirname(os.path.abspath(os.fsencode(path)))  # noqa: PTH100, PTH120  paths are bytes here
    lines = raw.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    judged = [_read(line, folder, f"{file}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not judged:
        raise UsageError(f"{file}: there is no query in it; write lines such as {_EXAMPLE}")
    return judged


def _read(line: bytes, folder: bytes, where: str) -> Judged:
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise UsageError(f"{where}: it isn't UTF-8; save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        at = f" at column {error.colno} ({error.msg})" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"{where}: not valid JSON{at}; write {_EXAMPLE}") from None
    if not isinstance(fields, dict):
        raise UsageError(f"{where}: not a JSON object; write {_EXAMPLE}")
    relevant = fields.get("relevant")
    if not isinstance(relevant, list) or not relevant:
        raise UsageError(f'{where}: nothing is relevant; add "relevant" with a list of one path or more')
    paths = tuple(dict.fromkeys(_path(name, folder, where) for name in relevant))
    item, modality = _item(fields.get("query"), folder, where)
    modalities = _names(fields, "in", Modality, where)
    views = _names(fields, "views", View, where)
    try:
        query = Query((Term(item),), filter=combined(None, modalities), views=views)
        return Judged(query, modality, paths, where, modalities)
    except QueryError as error:
        raise UsageError(f"{where}: {error}") from error


def _item(query: Any, folder: bytes, where: str) -> tuple[str | Path, Modality]:  # noqa: ANN401  of JSON
    """Return the text or the file of a query, and its modality."""
    if isinstance(query, str):
        return query, Modality.TEXT
    if not isinstance(query, dict) or "path" not in query:
        raise UsageError(f'{where}: "query" has to be a text, or {{"path": FILE}}; write {_EXAMPLE}')
    path = _path(query["path"], folder, where)
    named = os.fsdecode(path)
    if not os.path.lexists(path):
        raise UsageError(f"{where}: {named}: there is no such file; paths are relative to the file that names them")
    try:
        with open_regular(path) as file:
            modality = resolve(path, file.read(HEAD_BYTES))
    except (MediaError, OSError) as error:
        raise UsageError(f"{where}: {named}: {one_line(error)}; name a file that can be read") from error
    if modality is None:
        raise UsageError(f"{where}: {named}: not a kind of file that mmsearch knows; see the README for the list")
    return Path(named), modality


def _path(name: Any, folder: bytes, where: str) -> bytes:  # noqa: ANN401  of JSON
    """Return the absolute path of a name in the file of judged queries."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise UsageError(f"{where}: {json.dumps(name)[:80]} is no path; write the name of a file")
    try:
        path = os.fsencode(expand(name))
    except UnicodeEncodeError:
        raise UsageError(
            rf"{where}: {json.dumps(name)} is no path; bytes that aren't UTF-8 are \udc80 to \udcff"
        ) from None
    return os.path.abspath(os.path.join(folder, path))  # noqa: PTH100, PTH118  paths are bytes here


def _names(fields: dict[str, Any], key: str, kinds: type[Name], where: str) -> frozenset[Name]:
    given = fields.get(key)
    try:
        if given is not None and not isinstance(given, list):
            raise ValueError
        return frozenset(kinds(name) for name in given or ())
    except ValueError:
        raise UsageError(
            f'{where}: "{key}" is {json.dumps(given)[:80]}; give a list of {", ".join(sorted(kinds))}'
        ) from None


def write_captions(library: OpenLibrary, file: str | Path) -> int:
    """Write judged queries made from the captions of the library's own files; return the number of lines.

    The first passage of a content's captions is a query for that content; contents of one modality with the same
    passage share a line. The text view is not searched, since it holds the query itself. Raises `UsageError` if the
    file exists or no content has a caption.
    """
    path = expand(file)
    if os.path.lexists(path):
        raise UsageError(f"{file} exists, and isn't overwritten; remove it or name another")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: there is no such folder; make it, or name another file")
    folder = os.path.dirname(os.path.abspath(os.fsencode(path)))  # noqa: PTH100, PTH120  paths are bytes here
    lines: dict[tuple[Modality, str], dict[str, Any]] = {}
    for row in library.seen().catalog.captions():
        words = " ".join(row.text.split())
        line = {"query": words, "relevant": [], "in": [row.modality], "views": _OWN_VIEWS[row.modality]}
        known = lines.setdefault((row.modality, words.casefold()), line)
        known["relevant"].append(_relative(row.path, folder))
    if not lines:
        raise UsageError(
            f"no picture, sound or clip in {library.folder} has a caption; put photo.txt beside photo.jpg and run "
            "'mmsearch index' again"
        )
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines.values())
    try:
        # Bytes of a name that aren't UTF-8 are lone surrogates here; they are written as JSON escapes.
        write_whole(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise unwritable(error, f"{file} can't be written: {error.strerror or error}; name another") from error
    return len(lines)


def _relative(path: bytes, folder: bytes) -> str:
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # on another drive
        relative = path
    return os.fsdecode(b"./" + relative if relative.startswith(b"~") else relative)
