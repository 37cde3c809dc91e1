"""A recipe, from its media to a space folder: what `mmsearch train` does."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmsearch.errors import UsageError
from mmsearch.files import write_whole
from mmsearch.locking import write_lock
from mmsearch.spaces import normalise
from mmsearch.spaces.front_ends import Tokens
from mmsearch.spaces.onnx import TOWERS
from mmsearch.spaces.pieces import Pieces
from mmsearch.training.augment import read_dictionaries
from mmsearch.training.batch import Material, make_tokens
from mmsearch.training.checks import check
from mmsearch.training.export import export_space, model_card
from mmsearch.training.frozen import VIEWS, freeze, write_heads
from mmsearch.training.grown import GrownTower, listen_to, make_network, make_pieces
from mmsearch.training.heads import Head
from mmsearch.training.joint import Joint, spread
from mmsearch.training.kinds import Kinds, fit_kinds
from mmsearch.training.lines import read_lines
from mmsearch.training.loop import evaluating, train
from mmsearch.training.measure import measure
from mmsearch.training.recipe import Recipe, StageRecipe, TowerRecipe, read_recipe
from mmsearch.training.sources import Examples, read_sources
from mmsearch.training.start import start_from
from mmsearch.training.store import prepare
from mmsearch.training.taught import teach_pictures, teach_sounds, teach_texts
from mmsearch.training.towers import ImageTower, SoundTower, TeacherTower, TextTower
from mmsearch.training.vocabulary import make_tokenizer

_STARTED_BY = 256
"""How many inputs a tower is run on to take over weights."""
_LONGEST = 64
_SAMPLE = 20_000
"""Of how many rows of what a network says mean and deviation are taken."""
_FITTED = 8_000
"""Of how many texts the map from a sentence teacher into the starting space is fitted."""
_log = logging.getLogger(__name__)
Say = Callable[[str], None]


def run_stages(recipe: Recipe, folder: Path, say: Say) -> tuple[Material, nn.ModuleDict]:
    """Train all stages of a recipe; what `folder` holds of a killed run is gone on with."""
    folder.mkdir(parents=True, exist_ok=True)
    material = gather(recipe, folder, say)
    towers = make_towers(recipe, material).to("cuda" if torch.cuda.is_available() else "cpu")
    drawn_from = _digest(material)
    for number, stage in enumerate(recipe.stage):
        say(f"stage {stage.name}: {stage.steps:,} steps of {stage.batch}, training {', '.join(stage.train)}")
        task = Joint(towers, recipe.towers, stage, material, recipe.seed)
        name, identity = f"{number + 1}-{stage.name}", identify(recipe, number, drawn_from)
        train(task, stage.schedule(recipe.seed), folder, name, _speaker(stage, say), identity)
    return material, towers.cpu()


def identify(recipe: Recipe, number: int, drawn_from: str) -> str:
    """Return what a stage's weights come from: the recipe up to it, and the digest of what it draws from."""
    towers = {name: replace(tower, final_side=0) for name, tower in recipe.towers.items()}  # no weights come from that
    said = replace(recipe, stage=recipe.stage[: number + 1], towers=towers, notes="", licence="")
    return hashlib.blake2b(f"{said!r}\n{drawn_from}".encode("utf-8", "replace"), digest_size=10).hexdigest()


def _digest(material: Material) -> str:
    """Return a digest of the media and the texts."""
    examples, store = material.examples, material.store
    parts = [repr(one) for one in (store.units, examples.texts, examples.rows, examples.tags, store.folder.name)]
    return hashlib.blake2b("\n".join(parts).encode("utf-8", "replace"), digest_size=10).hexdigest()


def _speaker(stage: StageRecipe, say: Say) -> Callable[[int, Mapping[str, float]], bool]:
    def watch(step: int, losses: Mapping[str, float]) -> bool:
        said = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        say(f"{stage.name} {step:,}/{stage.steps:,}  {said}")
        return False

    return watch


def gather(recipe: Recipe, folder: Path, say: Say, examples: Examples | None = None) -> Material:
    """Read, decode and teach everything that a recipe draws from, or these examples of its sources."""
    examples = read_sources(recipe.data, recipe.held) if examples is None else examples
    files = sum(row.path is not None for row in examples.rows)
    say(f"{files:,} files, {len(examples.texts):,} texts, {len(examples.tags):,} tags")
    store = prepare(examples, recipe.stored)
    say(f"{len(store.pixels):,} pictures and {len(store.bounds) - 1:,} sounds are decoded")
    teaching = {"image": teach_pictures, "sound": teach_sounds}
    litert = {side: one for side, one in recipe.teachers.items() if one.kind == "litert"}
    targets = {side: teaching[side](store, one) for side, one in litert.items()}
    tokens: Tokens | Pieces | None = None
    if recipe.towers.get("text") and recipe.towers["text"].kind == "grown":
        tokens = _pieces(recipe, examples, folder)
    elif any(tower.kind == "text" for tower in recipe.towers.values()):
        file = recipe.tokenizer or folder / "tokenizer.json"
        if recipe.tokenizer is None:  # the same each time
            make_tokenizer([text.words for text in examples.texts], recipe.vocabulary, file)
        tokens = make_tokens(file, _LONGEST)
    lines = {name: list(read_lines(file)) for name, file in recipe.dictionaries.items()}
    material = Material(examples, store, targets, None, tokens, read_dictionaries(recipe.dictionaries, lines))
    if "text" in recipe.teachers:
        say("asking the sentence teacher")
        material.sentences = _reduced(recipe, material, np.asarray(teach_texts(store, examples), np.float32))
    frozen = {name: tower for name, tower in recipe.towers.items() if tower.kind == "frozen"}
    for name, tower in frozen.items():
        say(f"asking {tower.model} for {tower.of or name}")
    material.frozen = {name: freeze(name, tower, material) for name, tower in frozen.items()}
    for name, tower in recipe.towers.items():
        if tower.kind == "grown":
            say(f"asking {tower.network} for {name}")
            network = make_network(tower, tokens, _start_sound(recipe, material) if name == "sound" else None)
            material.frozen[name] = listen_to(name, tower, network, material)
            if name == "image":
                material.kinds = _kinds(network, material)
    return material


def _start_sound(recipe: Recipe, material: Material) -> SoundTower | None:
    """Return the sound tower of the space that a recipe starts from, None without one."""
    file = recipe.start / f"{TOWERS[VIEWS['sound']]}.onnx" if recipe.start else None
    if file is None or not file.is_file():
        return None
    tower = SoundTower(recipe.dim)
    start_from(tower, file, _inputs(TowerRecipe("sound"), material))
    return tower


def _kinds(network: nn.Module, material: Material) -> Kinds | None:
    """Return the kinds that a picture network can tell, where a source names them."""
    sources = [number for number, one in enumerate(material.examples.sources) if one.kind == "kinds"]
    if not sources:
        return None
    names = [row.texts for row in material.examples.rows if row.source == sources[0]]
    trained = [unit for unit in material.store.units if not material.examples.rows[unit.example].held]
    rows = sorted({picture for unit in trained for picture in unit.pictures})
    classifier = np.asarray(network.classifier, np.float32)
    return fit_kinds(material.frozen["image"][material.store.first_view[rows]], classifier, names)


def _pieces(recipe: Recipe, examples: Examples, folder: Path) -> Pieces:
    """Return the pieces that a grown text tower reads; what another run made of the same texts is taken."""
    file, texts = folder / "pieces.npz", [text.words for text in examples.texts]
    said = "\n".join((str(recipe.towers["text"].pieces), *texts))
    digest, mark = hashlib.blake2b(said.encode("utf-8", "replace")).hexdigest(), folder / "pieces.txt"
    if not mark.is_file() or mark.read_text("ascii") != digest:
        make_pieces(texts, recipe.towers["text"].pieces, file)
        write_whole(mark, digest.encode())
    return Pieces(file, _LONGEST)


def make_towers(recipe: Recipe, material: Material) -> nn.ModuleDict:
    """Return the towers of a recipe, with the weights that they start from."""
    towers = nn.ModuleDict()
    for number, (name, tower) in enumerate(recipe.towers.items()):
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed * 31 + number)
            towers[name] = towers[tower.shares] if tower.shares else _make_tower(name, tower, recipe, material)
        file = recipe.start / f"{TOWERS[VIEWS[tower.kind]]}.onnx" if recipe.start and tower.kind in VIEWS else None
        if file is not None and file.is_file():
            start_from(towers[name], file, _inputs(tower, material))
        if tower.kind == "image":
            towers[name].to(memory_format=torch.channels_last)
    return towers


def _make_tower(name: str, tower: TowerRecipe, recipe: Recipe, material: Material) -> nn.Module:
    match tower.kind:
        case "image":
            return ImageTower(tower.final_side or tower.side, tower.net, recipe.dim, tower.hidden)
        case "text":
            if material.tokens is None:
                raise UsageError("a text tower needs texts, and the recipe has none")
            words = material.tokens.vocabulary
            return TextTower(
                words, recipe.dim, tower.width, tower.layers, hidden=2 * tower.width, dropout=tower.dropout
            )
        case "sound":
            return SoundTower(recipe.dim)
        case "teacher":
            targets = material.targets[tower.of]
            head = TeacherTower(targets.layer.shape[1], recipe.dim, tower.hidden, tower.folds, tower.dropout)
            head.mean, head.deviation = spread(targets.layer)
            head.deviation.clamp_(min=1e-3)
            return head
        case "frozen":
            return Head(recipe.dim, into=material.frozen[name].shape[1])
        case "grown":
            network = make_network(tower, material.tokens, _start_sound(recipe, material) if name == "sound" else None)
            grown = GrownTower(network, recipe.dim, tower.hidden, tower.dropout, tower.side)
            said = material.frozen[name]
            grown.fit(np.asarray(said[:: max(1, len(said) // _SAMPLE)], np.float32))
            return grown
    raise UsageError(
        f"the tower {name} is of the kind {tower.kind!r}; image, text, sound, teacher, frozen and grown are known"
    )


def _inputs(tower: TowerRecipe, material: Material) -> tuple[torch.Tensor, ...]:
    """Return some inputs of a tower, the same each time."""
    random = np.random.default_rng(0)
    zeros = np.zeros(_STARTED_BY, np.int64)
    match tower.kind:
        case "image":
            return (material.pixels(random.integers(0, len(material.store.pixels), _STARTED_BY), zeros, tower.side),)
        case "sound":
            return (material.waves(random.integers(0, len(material.store.bounds) - 1, _STARTED_BY), 3.0),)
        case _:
            return material.tokenised([text.words for text in material.examples.texts[:8]])


def _reduced(recipe: Recipe, material: Material, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a sentence teacher's vectors in the recipe's dimension, L2-normalised.

    Where a text tower starts from weights, by ridge regression onto what it says, so that it goes on from where it is;
    else by their principal components.
    """
    if recipe.start is not None and (recipe.start / "text.onnx").is_file():
        tower = make_towers(replace(recipe, towers={"text": recipe.towers["text"]}), material)["text"]
        english = [
            row for row, text in enumerate(material.examples.texts) if text.meaning == row and text.language == "en"
        ]
        rows = np.random.default_rng(0).permutation(np.asarray(english, np.int64))[:_FITTED]
        said = embed_texts(tower, material, [material.examples.texts[row].words for row in rows])
        gram = vectors[rows].T @ vectors[rows]
        basis = np.linalg.solve(gram + 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram)), vectors[rows].T @ said)
    else:
        known = vectors[vectors.any(axis=1)]
        sample = known[:: max(1, len(known) // _FITTED)]
        basis = np.linalg.svd(sample - sample.mean(0), full_matrices=False)[2][: recipe.dim].T
    reduced = vectors @ basis.astype(np.float32)
    return normalise(reduced)


def embed_texts(tower: nn.Module, material: Material, texts: list[str]) -> NDArray[np.float32]:
    """Return (n, dim) of texts, L2-normalised, in input order."""
    parts = []
    with evaluating(tower):
        for start in range(0, len(texts), 256):
            parts.append(nn.functional.normalize(tower(*material.tokenised(texts[start : start + 256])), dim=1))
    return np.concatenate([part.numpy() for part in parts])


def train_recipe(file: Path, out: Path | None, say: Say) -> Path:
    """Train what a recipe says and return the space folder that it ends in: `out`, else the recipe's name beside it.

    Below it, `training/` holds checkpoints and logs; the same call goes on where a killed run stood. Raises
    `UsageError` naming what is wrong with the recipe or its data, `LockedError` while another process trains there.
    """
    recipe = read_recipe(file)
    check(recipe, file)
    folder = out or file.parent / recipe.name
    if recipe.start is not None and folder.resolve() == recipe.start.resolve():
        raise UsageError(f"{folder} is the space that the recipe starts from; choose another --out")
    if (folder / "spec.json").exists() and not (folder / "training").is_dir():
        raise UsageError(f"{folder} holds a space that wasn't trained there; choose another --out")
    (folder / "training").mkdir(parents=True, exist_ok=True)
    with write_lock(folder / "training"):
        material, towers = run_stages(recipe, folder / "training", say)
        say("measuring what was held out")
        figures = measure(towers, material) if "text" in towers else []
        if any(tower.kind == "frozen" for tower in recipe.towers.values()):
            write_whole(folder / "MODEL_CARD.md", model_card(recipe, figures).encode())
            write_heads(recipe, towers, material, folder)
        else:
            export_space(recipe, towers, material, folder, figures)
    return folder
