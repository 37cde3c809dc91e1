"""Sources of a recipe → examples: which pictures, sounds and texts say the same thing.

- `captions`: JSON lines; `image` or `file` names a file below `media`, `keys` the fields that hold its texts.
- `folders`: media in folders whose names say what they are; `names` puts words for the names (WordNet ids).
- `files`: any folder; captions stand in sidecar files.
- `library`: the files of a library, with their sidecars; the names of their folders are tags.
- `clips`: videos; `names` is a CSV with the columns file and label, whose labels are captions.
- `texts`: a text a line, of one language; of a line with TABs what stands after the last.
- `parallel`: the same lines in several languages, a file each, or one file of columns: a dictionary.
- `names`: JSON lines, an object from language to a name, or a list of names; with `wnid`, English comes from `names`.
- `kinds`: the labels of a network for pictures, a line each, in the order of its classes; the names of a kind in other
  languages come from `media`, a file of `names`, where `names` says which WordNet id has these very labels.
- `moments`: made of the other sources: a photo and a sound of one thing, for each of `things` equally many.

Texts may be packed with gzip.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmsearch.errors import MMSearchError, UsageError, one_line
from mmsearch.files import open_regular as open_named
from mmsearch.media import by_name, find_sidecars, open_regular
from mmsearch.media.captions import read_captions
from mmsearch.media.sidecar import has_times
from mmsearch.training import naming
from mmsearch.training.lines import read_lines
from mmsearch.training.recipe import Source
from mmsearch.types import Modality

_PER_SIDECAR = 64 * 1024
"""How much of a caption file is read, in bytes."""
_TWICE = 2
"""How many captions of a photo have to name a thing that it shows: one may speak of what isn't to be seen."""
_WORD = r"[^\W_]+"
_LANGUAGE = "[a-z]{2}"
_UNREADABLE = (OSError, ValueError, EOFError, zlib.error, csv.Error, RecursionError, AttributeError, TypeError)
"""What libraries raise on files that are damaged, or are of another kind than the recipe says."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text, and which one it translates: that has its meaning, and a teacher that knows one language has its vector.

    `row` is its place in `Examples.texts`, `meaning` that of the text it translates, or its own.
    """

    words: str
    language: str
    meaning: int


@dataclass(frozen=True, slots=True)
class Example:
    """What belongs together: a file with its captions and tags, or lines that say the same."""

    source: int
    path: Path | None
    texts: tuple[int, ...]
    """Rows of `Examples.texts`."""
    tag: int
    """A row of `Examples.tags`, -1 without one."""
    held: bool
    """Whether it is kept out of training."""
    fold: int
    """A number below 60 that it keeps: out-of-fold heads share examples out by it."""
    made_of: tuple[int, int] | None = None
    """Of a made moment: the rows of `Examples.rows` whose picture and sound it has."""


@dataclass(slots=True)
class Examples:
    """All examples of a recipe, in the order of its sources."""

    sources: Sequence[Source]
    rows: list[Example] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    tag_texts: list[tuple[int, ...]] = field(default_factory=list)
    """The rows of `texts` by which each tag is said."""
    _tags: dict[str, int] = field(default_factory=dict)

    @property
    def things(self) -> list[tuple[str, ...]]:
        """The words of every thing that moments are made of."""
        return [words for source in self.sources for words in source.things.values()]

    def text(self, words: str, language: str, meaning: int | None = None) -> int:
        """Take in a text and return its row."""
        row = len(self.texts)
        self.texts.append(Text(words, language, row if meaning is None else meaning))
        return row

    def tag(self, words: str, prompts: Sequence[str]) -> int:
        """Take in a tag once and return its row."""
        if words not in self._tags:
            self._tags[words] = len(self.tags)
            self.tags.append(words)
            self.tag_texts.append(tuple(self.text(prompt.format(words), "en") for prompt in prompts))
        return self._tags[words]


def read_sources(sources: Sequence[Source], held: int) -> Examples:
    """Read all sources of a recipe. Raises `UsageError` naming the source that can't be read or holds nothing."""
    examples = Examples(sources)
    for number, source in enumerate(sources):
        before = len(examples.rows)
        if source.is_made:
            continue
        if source.kind not in _KINDS:
            kinds = ", ".join(sorted((*_KINDS, "moments")))
            raise UsageError(f"the source {source.name} is of a kind not among {kinds}; mend the recipe")
        try:
            found = list(_KINDS[source.kind](source, examples))
        except KeyError as error:
            named = source.names or source.path
            raise UsageError(f"{named} lacks {error} in a line or a row; mend it, or the recipe's source") from None
        except _UNREADABLE as error:
            raise UsageError(f"{source.path} can't be read ({one_line(error)}); mend the recipe's source") from None
        if source.limit and len(found) > source.limit:
            step = len(found) / source.limit
            found = [found[int(n * step)] for n in range(source.limit)]
        for path, texts, tag in found:
            name = path.name if path else examples.texts[texts[0]].words
            if path and source.group and (shared := re.search(source.group, name)):
                name = shared[0] or name
            number_of = int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=4).digest(), "big")
            one_in = source.one_in(held)
            is_held = path is not None and one_in > 0 and number_of % one_in == 0
            examples.rows.append(Example(number, path, texts, tag, is_held, number_of // 1000 % 60))
        if len(examples.rows) == before:
            raise UsageError(f"the source {source.name} ({source.path}) holds nothing to learn from; mend the recipe")
    _keep_apart(examples)
    for number, source in enumerate(sources):
        if source.is_made:
            examples.rows += list(_make_moments(number, source, examples))
    _compact(examples)
    return examples


def _make_moments(number: int, source: Source, examples: Examples) -> Iterator[Example]:
    """Yield moments that nobody recorded: a photo and a sound of one thing, of what is trained on.

    Raises `UsageError` where nothing is called by a word of a thing, or a thing has no photos or no sounds.
    """
    drawn = np.random.default_rng(0)
    words = {word for words in source.things.values() for word in words}
    shown, heard = (called(examples, kind, words, held=False) for kind in (Modality.IMAGE, Modality.AUDIO))
    pools = []
    for thing, names in source.things.items():
        if unknown := [name for name in names if not shown[name] and not heard[name]]:
            raise UsageError(
                f"the thing {thing!r}: no folder to train on is called {unknown[0]!r}, nor do {_TWICE} captions "
                "of a file say it; mend the recipe"
            )
        pools.append((thing, [[rows[name] for name in names if rows[name]] for rows in (shown, heard)]))
        if not all(pools[-1][1]):
            raise UsageError(f"the thing {thing!r} has no photos, or no sounds, to make moments of; mend the recipe")
    for n in range(source.limit):
        thing, by_word = pools[n % len(pools)]
        # each word alike: photos whose captions name a dog are many, those of poodles few
        sorts = [some[drawn.integers(len(some))] for some in by_word]
        photo, sound = (int(drawn.choice(rows)) for rows in sorts)
        # what the sound is called, where it is: the thing, or the photo, is not what it is the sound of
        tag = examples.rows[sound].tag
        tag = tag if tag >= 0 else examples.tag(thing, source.prompts)
        yield Example(number, None, (), tag, held=False, fold=examples.rows[photo].fold, made_of=(photo, sound))


def called(examples: Examples, modality: Modality, words: Iterable[str], *, held: bool) -> dict[str, list[int]]:
    """Return the rows of files of a modality that are held out, or aren't, by the words that they are called by.

    A word is the name of a file's folder, or is said by two of its English captions, or by the only one.
    """
    found: dict[str, list[int]] = {word: [] for word in words}
    sought = [(_spaced(word), rows) for word, rows in found.items()]
    for number, row in enumerate(examples.rows):
        if row.path is None or row.held != held or by_name(os.fsencode(row.path.name)) is not modality:
            continue
        tag = _spaced(examples.tags[row.tag]) if row.tag >= 0 else ""
        said = {_spaced(one.words) for t in row.texts if (one := examples.texts[t]).language == "en"}
        for word, rows in sought:
            by = sum(word in words or f"{word[:-1]}s " in words for words in said)
            if tag == word or by >= min(_TWICE, len(said)) > 0:
                rows.append(number)
    return found


def _spaced(words: str) -> str:
    return f" {' '.join(re.findall(_WORD, words.casefold()))} "


def _keep_apart(examples: Examples) -> None:
    """Drop what would give away a held-out file: the file in another source, lines that say what is said of it."""
    texts = examples.texts
    held = [row for row in examples.rows if row.held]
    files, captions = {row.path for row in held}, {_bare(texts[t].words) for row in held for t in row.texts}

    def gives_away(row: Example) -> bool:
        if row.path is not None:
            return not row.held and row.path in files
        is_name = examples.sources[row.source].kind in ("kinds", "names")  # what a thing is called gives nothing away
        return not is_name and any(_bare(texts[t].words) in captions for t in row.texts)

    examples.rows = [row for row in examples.rows if not gives_away(row)]


def _compact(examples: Examples) -> None:
    """Forget texts that nothing says any more: a teacher would be asked for them."""
    said = {t for texts in (*(row.texts for row in examples.rows), *examples.tag_texts) for t in texts}
    kept = sorted(said | {examples.texts[t].meaning for t in said})
    places = {row: place for place, row in enumerate(kept)}
    examples.rows = [replace(row, texts=tuple(places[t] for t in row.texts)) for row in examples.rows]
    examples.tag_texts = [tuple(places[t] for t in texts) for texts in examples.tag_texts]
    old = examples.texts
    examples.texts = [Text(old[row].words, old[row].language, places[old[row].meaning]) for row in kept]


def _bare(words: str) -> str:
    return "".join(letter for letter in words.casefold() if letter.isalnum())


Found = tuple[Path | None, tuple[int, ...], int]
"""A file, if there is one; its texts; its tag."""


def _captions(source: Source, examples: Examples) -> Iterator[Found]:
    folder = source.media or source.path.parent
    lines = [json.loads(line) for line in read_lines(source.path)]
    more = {
        _file_of(fields): fields
        for line in (read_lines(source.more) if source.more else ())
        if (fields := json.loads(line))
    }
    lines = [{**more.get(_file_of(fields), {}), **fields} for fields in lines]
    for fields in sorted(lines, key=_file_of):
        if all(fields.get(key) == value for key, value in source.where.items()):
            texts = tuple(row for key in source.keys for row in _texts_of(fields.get(key), key, examples))
            yield folder / _file_of(fields), texts, -1


def _file_of(fields: dict[str, Any]) -> str:
    return str(fields.get("image") or fields["file"])


def _texts_of(value: Any, key: str, examples: Examples) -> list[int]:  # noqa: ANN401  a field of JSON
    """Take in what a field holds: a text, a list of them, or texts that say the same by language.

    A field whose name is a language, of two letters, holds texts of that language, any other English ones.
    """
    language = key if re.fullmatch(_LANGUAGE, key) else "en"
    if isinstance(value, str):
        return [examples.text(value, language)]
    if isinstance(value, list):
        return [examples.text(words, language) for words in value if isinstance(words, str)]
    if isinstance(value, dict):
        return _translations({str(k).partition("_")[0]: v for k, v in value.items() if isinstance(v, str)}, examples)
    return []


def _translations(by_language: dict[str, str], examples: Examples) -> list[int]:
    """Take in texts that say the same; English, where it is there, gives the meaning."""
    order = sorted(by_language, key=lambda language: language != "en")
    rows: list[int] = []
    for language in order:
        rows.append(examples.text(by_language[language], language, rows[0] if rows else None))
    return rows


def _folders(source: Source, examples: Examples) -> Iterator[Found]:
    table = dict(line.split("\t", 1) for line in read_lines(source.names) if "\t" in line) if source.names else {}
    for folder in sorted(one for one in source.path.iterdir() if one.is_dir()):
        words = table.get(folder.name, folder.name).split(",")[0].replace("_", " ").strip().lower()
        tag = examples.tag(words, source.prompts)
        for file in _media(folder):
            yield file, (), tag


def _files(source: Source, examples: Examples) -> Iterator[Found]:
    for file in _media(source.path):
        yield file, tuple(examples.text(words, "en") for words in captions_beside(file)), -1


def _library(source: Source, examples: Examples) -> Iterator[Found]:
    from mmsearch.catalog import Catalog

    catalog = Catalog(source.path / "catalog.sqlite")
    try:
        files = sorted(Path(os.fsdecode(row.path)) for row in catalog.media_under(b"/"))
    finally:
        catalog.close()
    folders = {file.parent for file in files}
    for file in files:
        tag = examples.tag(file.parent.name.replace("_", " "), source.prompts) if len(folders) > 1 else -1
        yield file, tuple(examples.text(words, "en") for words in captions_beside(file)), tag


def _clips(source: Source, examples: Examples) -> Iterator[Found]:
    labels: dict[str, str] = {}
    if source.names:
        with io.TextIOWrapper(open_named(source.names), encoding="utf-8", newline="") as opened:
            labels = {row["file"]: row["label"] or "" for row in csv.DictReader(opened)}
    for file in _media(source.path):
        said = [examples.text(labels[file.name], "en")] if labels.get(file.name) else []
        yield file, (*said, *(examples.text(words, "en") for words in captions_beside(file))), -1


def _texts(source: Source, examples: Examples) -> Iterator[Found]:
    for line in read_lines(source.path):
        yield None, (examples.text(line.rpartition("\t")[2], source.languages[0]),), -1


def _parallel(source: Source, examples: Examples) -> Iterator[Found]:
    for lines in _side_by_side(source):
        if len(lines) == len(source.languages) and all(lines):
            yield None, tuple(_translations(dict(zip(source.languages, lines, strict=True)), examples)), -1


def _side_by_side(source: Source) -> Iterable[Sequence[str]]:
    """Return what stands in each line, by language: of files of their own, or of one with TABs."""
    if "{}" not in str(source.path):
        return (line.split("\t") for line in read_lines(source.path))
    files = [Path(str(source.path).format(language)) for language in source.languages]
    return zip(*(read_lines(file, empty=True) for file in files), strict=True)


_KINDS = {
    "captions": _captions,
    "folders": _folders,
    "files": _files,
    "library": _library,
    "clips": _clips,
    "texts": _texts,
    "parallel": _parallel,
    "names": naming.names,
    "kinds": naming.kinds,
}


def _media(folder: Path) -> Iterable[Path]:
    """Return the pictures, sounds and clips below a folder, by path."""
    for file in sorted(folder.rglob("*")):
        kind = by_name(os.fsencode(file.name))
        if kind not in (None, Modality.TEXT) and file.is_file() and not file.name.startswith("."):
            yield file


def captions_beside(file: Path) -> list[str]:
    """Return the captions in a file's sidecars; one that can't be read counts as none."""
    captions: list[str] = []
    for sidecar in find_sidecars(os.fsencode(file)):
        if not has_times(sidecar):
            try:
                with open_regular(sidecar) as beside:
                    captions += read_captions(sidecar, beside.read(_PER_SIDECAR)).captions
            except MMSearchError:
                continue
    return captions
