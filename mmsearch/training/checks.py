"""What is wrong with a recipe, said before anything is decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mmsearch.errors import UsageError
from mmsearch.training.grown import NETWORKS
from mmsearch.training.recipe import Recipe, StageRecipe, TermRecipe

_NAME = re.compile(r"\w[\w.-]*")
_PAIRS = ("contrast", "instance", "agreement")
_OF = ("within", "features", "match", "classes", "believed", "kinds")
_KINDS = (*_PAIRS, *_OF, "sentences")
_MODES = ("both", "cross", "within", "image", "sound")
_OWN = ("image", "text", "sound")
_TOWERS = (*_OWN, "teacher", "frozen", "grown")


def check(recipe: Recipe, file: Path) -> None:
    """Raise `UsageError` in one line that names the file and the first thing in the recipe that can't work."""
    for problem in (*_of_recipe(recipe), *(p for stage in recipe.stage for p in _of_stage(stage, recipe))):
        raise UsageError(f"{file}: {problem}")


def _of_recipe(recipe: Recipe) -> Iterator[str]:
    for name in (recipe.name, *(stage.name for stage in recipe.stage)):
        if not _NAME.fullmatch(name):
            yield f"the name {name!r} is no plain file name; use letters, digits, dots and dashes"
    if not (recipe.data and recipe.stage and any(name in _OWN for name in recipe.towers)):
        yield "it needs data, a stage, and a tower called image, text or sound"
    if min(recipe.dim, recipe.stored, recipe.vocabulary) < 1 or recipe.held < 0:
        yield "dim, stored and vocabulary are at least 1, held is 0 or more"
    for path in (recipe.start, recipe.tokenizer):
        if path is not None and not path.exists():
            yield f"{path} doesn't exist; mend start or tokenizer"
    for name in recipe.dictionaries:
        if not re.fullmatch(r"[a-z]+-[a-z]+", name):
            yield f"the dictionary {name!r} isn't named by its languages, as in en-de"
    for side, teacher in recipe.teachers.items():
        wanted = "sentences" if side == "text" else "litert"
        if side not in _OWN or teacher.kind != wanted:
            yield f"teachers are those of image and sound, of the kind litert, and of text, sentences; not {side!r}"
    yield from _of_sources(recipe)
    yield from _of_towers(recipe)


def _of_sources(recipe: Recipe) -> Iterator[str]:
    names = [source.name for source in recipe.data]
    if twice := [name for name in names if names.count(name) > 1]:
        yield f"two sources are called {twice[0]!r}; give one of them another name"
    for source in recipe.data:
        if source.is_made and (not source.things or source.limit < 1):
            yield f"the source {source.name} makes moments: it needs things, and a limit of 1 or more"
        try:
            re.compile(source.group)
        except re.error as error:
            yield f"the group of the source {source.name} is no regular expression ({error})"
        for prompt in source.prompts:
            if prompt.count("{}") != 1 or prompt.count("{") != 1:
                yield f"the prompt {prompt!r} of the source {source.name} needs one {{}} and no other brace"


def _of_towers(recipe: Recipe) -> Iterator[str]:
    frozen = {tower.kind == "frozen" for name, tower in recipe.towers.items() if name in _OWN}
    if len(frozen) > 1:
        yield "it mixes frozen towers with others; a space has one kind"
    for name, tower in recipe.towers.items():
        if tower.kind == "grown" and NETWORKS.get(tower.network) != name:
            known = ", ".join(f"{network} ({side})" for network, side in NETWORKS.items())
            yield f"the grown tower {name} needs a network of its side, and its name is that side: {known}"
        if tower.network == "start" and recipe.start is None:
            yield f"the tower {name} is grown on the one that the recipe starts from, but it has no start"
        if tower.kind not in _TOWERS:
            yield f"the tower {name} is of the kind {tower.kind!r}; there are {', '.join(_TOWERS)}"
        if tower.kind in _OWN and name != tower.kind:
            yield f"the tower {name} is of the kind {tower.kind}, so it has to be called that"
        if min(tower.side, tower.hidden, tower.width, tower.layers) < 1 or tower.final_side < 0:
            yield f"the tower {name} needs a side, hidden, width and layers of 1 or more"
        if tower.kind == "teacher" and (name in _OWN or tower.of not in recipe.teachers):
            yield f"the tower {name} reads a teacher's layer: `of` names the teacher, and its own name is no side's"
        if tower.of == "sound" and tower.folds > 1 and any(source.is_made for source in recipe.data):
            yield f"the tower {name} has folds, but a made moment has the fold of its photo, not of its sound; use one"
        if tower.kind == "frozen" and ((tower.of or name) not in _OWN or not tower.model):
            yield f"the frozen tower {name} needs a model, and `of` image, text or sound where that isn't its name"
        if tower.shares and tower.shares not in [before for before in recipe.towers if before != name]:
            yield f"the tower {name} shares {tower.shares!r}, which is no other tower"


def _of_stage(stage: StageRecipe, recipe: Recipe) -> Iterator[str]:
    where = f"stage {stage.name}"
    named = [*stage.train, *(name for term in stage.terms for name in (*term.between, term.of, term.to) if name)]
    for name in named:
        if name not in recipe.towers:
            yield f"{where} names {name!r}, which is no tower of this recipe"
            return
    for name in stage.mix:
        if name not in {source.name for source in recipe.data}:
            yield f"{where} mixes {name!r}, which is no source of this recipe"
    if not stage.train or not stage.terms or min(stage.steps, stage.batch, stage.log_every) < 1 or stage.lr < 0:
        yield f"{where} needs towers to train, terms, and steps, batch and log_every of 1 or more"
    if stage.mix and not sum(stage.mix.values()) > 0:
        yield f"{where} mixes nothing; give a source a weight"
    if stage.precision not in ("fp32", "bf16"):
        yield f"{where} has the precision {stage.precision!r}; there are fp32 and bf16"
    for term in stage.terms:
        kinds = _of_kinds(term, recipe) if term.kind == "kinds" else ()
        for problem in (*_of_term(term, stage, recipe), *kinds):
            yield f"{where}: {problem}"


def _of_term(term: TermRecipe, stage: StageRecipe, recipe: Recipe) -> Iterator[str]:
    if term.kind not in _KINDS:
        yield f"there is no term {term.kind!r}, but {', '.join(_KINDS)}"
        return
    if term.kind in _PAIRS and len({*term.between}) != 2:
        yield f"{term.kind} is between two towers"
        return
    if (term.kind in _OF and not term.of) or (term.kind == "match" and not term.to):
        yield f"{term.kind} says `of` which tower, and match also `to` which"
        return
    if not term.temperature > 0 or term.mode not in _MODES or min(term.every, term.positives, term.negatives) < 1:
        yield f"{term.kind} has a temperature above 0, a mode of {', '.join(_MODES)}, and counts of 1 or more"
    sides = [recipe.towers[name].of or name for name in term.between]
    if term.kind in ("instance", "agreement") and sides != ["image", "sound"]:
        yield f"{term.kind} is between a tower for pictures and one for sounds, in this order"
    if term.kind == "agreement" and not any(
        other.kind == "instance" and other.between == term.between for other in stage.terms
    ):
        yield "agreement needs instance between the same towers, whose banks it mines"
    if term.kind in ("features", "believed") and (recipe.towers[term.of].of or term.of) not in recipe.teachers:
        yield f"{term.kind} of {term.of} needs a teacher of that side"
    if term.kind == "believed" and recipe.teachers[recipe.towers[term.of].of or term.of].labels is None:
        yield f"believed of {term.of} needs the labels of its teacher"
    if term.kind in ("classes", "believed") and "text" not in recipe.towers:
        yield f"{term.kind} needs a tower called text, by which classes are named"
    if term.kind == "sentences" and "text" not in recipe.teachers:
        yield "sentences needs a teacher of text"


def _of_kinds(term: TermRecipe, recipe: Recipe) -> Iterator[str]:
    grown = {name for name, tower in recipe.towers.items() if tower.kind == "grown"}
    if not {"image", "text"} <= grown or term.of != "image":
        yield "kinds is of a grown tower for pictures, beside a grown one for texts"
    if not any(source.kind == "kinds" for source in recipe.data):
        yield "kinds needs a source of that kind, which names them"
