"""Recipes: what to train, from which media, in which stages; a TOML file with every number in it."""

from __future__ import annotations

import dataclasses
import os
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsearch.errors import UsageError
from mmsearch.files import read_bounded
from mmsearch.training.loop import Schedule

_MOST_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """Where examples come from; `mmsearch.training.sources` says what each kind reads."""

    kind: str
    """captions, folders, files, library, clips, texts, parallel, names, kinds or moments."""
    path: Path = Path()
    """What is read; of moments nothing, they are made of what other sources read."""
    name: str = ""
    """How stages and reports call it; else the path's last part, or the kind."""
    media: Path | None = None
    """Of captions: the folder of the pictures or sounds that the lines name."""
    keys: tuple[str, ...] = ("captions",)
    """Of captions: the fields that hold texts, a text, a list, or an object from language to text."""
    more: Path | None = None
    """Of captions: JSON lines with more fields of the same files."""
    where: dict[str, str] = field(default_factory=dict)
    """Of captions: the fields that a line must have just so."""
    names: Path | None = None
    """Of folders: a table from folder name to words, TAB between. Of names and kinds: one from WordNet id to words. Of
    clips: a CSV with the columns file and label."""
    prompts: tuple[str, ...] = ("{}", "a photo of a {}")
    """How a tag is said."""
    languages: tuple[str, ...] = ("en",)
    """Of texts: that of the file. Of parallel: one a file, in place of `{}` in the path; without `{}`, one a column."""
    views: int = 8
    """How many views of each picture and sound a teacher is shown; 1 is a picture as it is, a sound as it begins."""
    held: int | None = None
    """One file in so many is never trained on, where that is another number than the recipe's: 0 is none, 1 is all."""
    group: str = ""
    """A regular expression for the part of a file's name that files of one recording share: all of them are held out,
    or none is."""
    limit: int = 0
    """How many at most, evenly chosen; 0 is all. Of moments: how many are made."""
    things: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Of moments: what is seen and heard, by names of folders and words of captions that say so."""

    @property
    def is_made(self) -> bool:
        """Whether its examples are made of those of other sources, and nothing is read."""
        return self.kind == "moments"

    def one_in(self, held: int) -> int:
        """Return of how many files one is held out, where a recipe says `held`: 0 is none, 1 is all."""
        return held if self.held is None else self.held


@dataclass(frozen=True, slots=True)
class TowerRecipe:
    """One tower. What a kind doesn't use is left out."""

    kind: str
    """image, text or sound: a network; teacher: an MLP on a teacher's features; frozen: a residual head on a model's
    vectors; grown: an MLP on a published network, which stays as it is and is exported with it."""
    network: str = ""
    """Of grown: the network, one of `grown.NETWORKS`."""
    pieces: int = 100_000
    """Of a grown text tower: how many pieces of the network's vocabulary it keeps at most."""
    net: str = "regnetx_004"
    side: int = 128
    """How large the pictures are that it is trained on, in pixels."""
    final_side: int = 0
    """How large those are that the space looks at; 0 is `side`. Things look larger in the crops of training than in
    whole pictures, so a little more is better (Touvron et al. 2019, arXiv:1906.06423)."""
    hidden: int = 1024
    layers: int = 2
    width: int = 256
    dropout: float = 0.1
    model: str = ""
    """Of frozen: the model whose tower of this side stays as it is."""
    of: str = ""
    """Of teacher: the side that it teaches. Of frozen: the side that it looks at, where that isn't its name."""
    shares: str = ""
    """Of frozen: the tower whose head it uses. A head that learns from texts of one model takes its sounds along."""
    folds: int = 1
    """Of teacher: how many heads, each blind to its share of the examples, so that what they say of an example was
    never learnt from its own captions."""


@dataclass(frozen=True, slots=True)
class TeacherRecipe:
    """A model that sets targets; nothing of it is shipped."""

    kind: str
    """litert or sentences."""
    file: Path = Path()
    layer: str = ""
    """Of litert: the inner tensor that is learnt, by its name's end."""
    side: int = 224
    labels: Path | None = None
    """Of litert: the names of its classes, a line each, or a CSV with the column display_name."""


@dataclass(frozen=True, slots=True)
class TermRecipe:
    """One loss; `mmsearch.training.joint` says what each kind computes."""

    kind: str
    between: tuple[str, ...] = ()
    of: str = ""
    to: str = ""
    weight: float = 1.0
    temperature: float = 0.07
    tags: bool = False
    queue: int = 0
    negatives: int = 1024
    positives: int = 32
    mode: str = "both"
    every: int = 200
    head: int = 0


@dataclass(frozen=True, slots=True)
class StageRecipe:
    """One run of the loop."""

    name: str
    train: tuple[str, ...]
    terms: tuple[TermRecipe, ...]
    steps: int
    lr: float
    batch: int = 128
    warmup: int = 0
    final: float = 0.0
    """What is left of `lr` at the end: 0 where nothing follows, 1 where the next stage goes on."""
    weight_decay: float = 0.01
    precision: str = "fp32"
    """fp32, or bf16 for the towers' arithmetic; weights and losses are float32 in both."""
    mix: dict[str, float] = field(default_factory=dict)
    """How much of a batch each source is; sources without a weight are not in it. Empty: all examples alike, but for
    moments."""
    mixup: float = 0.0
    """The share of batches whose pictures and sounds are blended in pairs, with their targets."""
    switch: float = 0.0
    """The probability that a caption is code-switched, and that a word of it then is (M3P: 0.8)."""
    english: float = 0.0
    """How often the caption of an example that has some in several languages is an English one. The other languages
    share the rest by the roots of how many captions they have. 0 draws each caption alike."""
    momentum: float = 0.0
    """Of the key encoders of terms with a queue (MoCo); 0 is without."""
    log_every: int = 20

    def schedule(self, seed: int) -> Schedule:
        """Return how the loop goes about it."""
        return Schedule(
            self.steps,
            self.lr,
            self.warmup,
            self.final,
            self.weight_decay,
            seed=seed,
            log_every=self.log_every,
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """All of it."""

    name: str
    dim: int
    data: tuple[Source, ...]
    towers: dict[str, TowerRecipe]
    stage: tuple[StageRecipe, ...]
    seed: int = 0
    held: int = 10
    """One file in so many is never trained on, by the digest of its name; 0 is none."""
    root: Path = Path()
    """The folder that paths of data and teachers are relative to; else the recipe's own. $NAME is the environment's."""
    stored: int = 160
    """The side at which pictures are kept, in pixels, squashed to a square."""
    tokenizer: Path | None = None
    """A `tokenizer.json`; without, one is made from the recipe's texts."""
    vocabulary: int = 20_000
    start: Path | None = None
    """A space folder whose weights towers of the same name begin with."""
    dictionaries: dict[str, Path] = field(default_factory=dict)
    """For code-switching: word pairs, TAB between, by `en-de`, `en-fr`, …"""
    teachers: dict[str, TeacherRecipe] = field(default_factory=dict)
    """By the side that they teach."""
    licence: str = "that of the training data"
    notes: str = ""
    """What the model card says beside what is measured."""


def read_recipe(file: Path) -> Recipe:
    """Read a recipe. Raises `UsageError` naming the file and the field that is wrong."""
    try:
        found = tomllib.loads(read_bounded(file, _MOST_BYTES).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{file} can't be read ({(error.strerror or str(error)).lower()}); name a recipe") from None
    except RecursionError:
        raise UsageError(f"{file} is no TOML (it is nested too deeply); mend it") from None
    except ValueError as error:
        raise UsageError(f"{file} is no TOML ({error}); mend it") from None
    try:
        recipe = _make(Recipe, found, "")
        for number, source in enumerate(found["data"]):
            if "path" not in source and not recipe.data[number].is_made:
                raise _FieldError(f"data.{number} lacks a field (path)")
    except _FieldError as error:
        raise UsageError(f"{file}: {error}") from None
    root = file.parent / os.path.expandvars(recipe.root)
    return _rooted(recipe, root)


class _FieldError(ValueError):
    """A field is unknown, missing or of another type."""


def _make(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401  what TOML holds, into what a field declares
    """Return a value of TOML as the type that a field declares. Raises `_FieldError` naming the field."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _make(next(one for one in inner if one is not types.NoneType), value, where)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        if unknown := sorted(set(value) - set(hints)):
            raise _FieldError(f"{where}{unknown[0]} is no field; it takes {', '.join(sorted(hints))}")
        fields = {name: _make(hints[name], each, f"{where}{name}.") for name, each in value.items()}
        try:
            return typing.cast("Any", kind)(**fields)
        except TypeError as error:
            raise _FieldError(f"{where or 'it'} lacks a field ({str(error).partition('()')[2].strip()})") from None
    if origin is tuple and isinstance(value, list):
        return tuple(_make(inner[0], each, f"{where}{n}.") for n, each in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {name: _make(inner[1], each, f"{where}{name}.") for name, each in value.items()}
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise _FieldError(f"{where.rstrip('.')} is {value!r}, but has to be {getattr(kind, '__name__', kind)}")


def _rooted(recipe: Recipe, root: Path) -> Recipe:
    """Return the recipe with all of its paths below the root."""

    def below(path: Path) -> Path:
        return root / os.path.expandvars(path)

    def maybe(path: Path | None) -> Path | None:
        return None if path is None else below(path)

    return dataclasses.replace(
        recipe,
        root=root,
        data=tuple(
            dataclasses.replace(
                one,
                path=below(one.path),
                media=maybe(one.media),
                names=maybe(one.names),
                more=maybe(one.more),
                name=one.name or one.path.name or one.kind,
            )
            for one in recipe.data
        ),
        tokenizer=maybe(recipe.tokenizer),
        start=maybe(recipe.start),
        dictionaries={name: below(path) for name, path in recipe.dictionaries.items()},
        teachers={
            side: dataclasses.replace(one, file=below(one.file), labels=maybe(one.labels))
            for side, one in recipe.teachers.items()
        },
    )
