"""Trained towers → a space folder: ONNX towers, tokenizer, spec, model card.

Weights are stored in half precision and word vectors in 8 bits a value with a scale a row, which halves the folder
twice; both are undone inside the graph. Every tower is checked against the one in torch before the spec is written,
and the spec is written last: a folder without one is no space.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as fn

from mmsearch.errors import TrainingError
from mmsearch.files import write_whole
from mmsearch.spaces import OnnxSpace, normalise
from mmsearch.spaces.front_ends import Tokens
from mmsearch.spaces.onnx import TOWERS
from mmsearch.spaces.pieces import Pieces
from mmsearch.spaces.towers import quiet
from mmsearch.training.batch import DEVIATION, MEAN, Material
from mmsearch.training.encoder import SentenceNetwork
from mmsearch.training.frozen import VIEWS
from mmsearch.training.grown import GrownTower
from mmsearch.training.loop import evaluating
from mmsearch.training.measure import Figure, picture_vectors, side_of, sound_vectors, table
from mmsearch.training.recipe import Recipe, Source
from mmsearch.training.store import RATE_HZ
from mmsearch.types import View

_OPSET = 17
_INPUTS = {"text": ["ids", "mask"], "image": ["pixels"], "audio": ["wave"]}
"""What the towers of a space folder call what they are given, by file."""
_TOKENIZERS = {Tokens: "tokenizer.json", Pieces: "pieces.npz"}
"""What cuts texts up, by its front end."""
_WEIGHTS = "weights.bin"
"""Where the weights of a text tower with pieces lie."""
_LEAST_COSINE = 0.999
_HALVED_BYTES = 1024
"""Smaller weights stay as they are."""
_UNRELATED = 400
"""How many of each view the background is measured on."""


class _Unit(nn.Module):
    """A tower whose vectors have unit length."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        self.network = tower.network if isinstance(tower, GrownTower) else None  # its weights are weights of the graph

    def forward(self, *inputs: Tensor) -> Tensor:
        return fn.normalize(self.tower(*inputs), dim=1)


class _Rounded(nn.Module):
    """Word vectors of 8 bits, with a scale for each."""

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        scale = words.weight.detach().abs().amax(1, keepdim=True).clamp(min=1e-8) / 127.0
        self.register_buffer("q", torch.round(words.weight.detach() / scale).to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self, ids: Tensor) -> Tensor:
        return torch.as_tensor(self.q)[ids].float() * torch.as_tensor(self.scale)[ids]


def export_space(
    recipe: Recipe, towers: nn.ModuleDict, material: Material, folder: Path, figures: Sequence[Figure]
) -> None:
    """Write a space folder. Raises `ModelError` where a tower doesn't answer as in torch, `OSError` for the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as building:
        made = Path(building)
        _build(recipe, towers, material, made, figures)
        (folder / "spec.json").unlink(missing_ok=True)
        for file in sorted(made.iterdir(), key=lambda file: file.name == "spec.json"):
            write_whole(folder / file.name, file.read_bytes())


def _build(recipe: Recipe, towers: nn.ModuleDict, material: Material, folder: Path, figures: Sequence[Figure]) -> None:
    """Write the files of a space, and compare its towers with those in torch."""
    sections: dict[str, Any] = {}
    examples: dict[str, tuple[Tensor, ...]] = {}
    for side in (side for side in ("text", "image", "sound") if side in towers):
        examples[side] = _examples(side, material, towers[side])
        name = TOWERS[VIEWS[side]]
        file = folder / f"{name}.onnx"
        _write(towers[side], examples[side], file)
        sections[name] = {"file": file.name, **_section(side, towers[side], material)}
    if "text" in sections and material.tokens is not None:
        shutil.copyfile(material.tokens.file, folder / _TOKENIZERS[type(material.tokens)])
    spec = {
        "name": recipe.name,
        "dim": recipe.dim,
        **sections,
        "training_data": [source.name for source in _trained_on(recipe)],
        "licence": recipe.licence,
        "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())},
        "background": background(towers, material),
    }
    (folder / "MODEL_CARD.md").write_text(model_card(recipe, figures), "utf-8")
    (folder / "spec.json").write_text(json.dumps(spec, indent=1), "utf-8")
    space = OnnxSpace("the export", folder, "cpu")
    for side, inputs in examples.items():
        _check(towers[side], inputs, space, VIEWS[side])


def _section(side: str, tower: nn.Module, material: Material) -> dict[str, Any]:
    """Return what the front end of a tower has to know."""
    match side:
        case "text":
            pieces = {"pieces": _TOKENIZERS[Pieces]} if isinstance(material.tokens, Pieces) else {}
            languages = {text.language for text in material.examples.texts} - {"emoji"}
            return {"max_len": 64, **pieces, "languages": sorted(languages)}
        case "image":
            return {"size": side_of(tower), "mean": MEAN, "std": DEVIATION}
        case _:
            return {"sample_rate": RATE_HZ}


def _examples(side: str, material: Material, tower: nn.Module) -> tuple[Tensor, ...]:
    """Return inputs to trace and check a tower with, of the media it was trained on."""
    few = np.arange(4)
    match side:
        case "text":
            return material.tokenised([text.words for text in material.examples.texts[:4]])
        case "image":
            return (material.pixels(few % len(material.store.pixels), np.zeros(4, np.int64), side_of(tower)),)
        case _:
            return (material.waves(few % (len(material.store.bounds) - 1), 2.0),)


def _write(tower: nn.Module, inputs: tuple[Tensor, ...], file: Path) -> None:
    if isinstance(tower, GrownTower) and isinstance(tower.network, SentenceNetwork):
        _write_sentences(tower, file)
    else:
        _write_traced(tower, inputs, file)


def _write_sentences(tower: GrownTower, file: Path) -> None:
    """Write a tower whose weights lie beside it: they are mapped, so that of word vectors only a query's are read."""
    import onnx

    from mmsearch.training.sentence_graph import sentence_graph  # onnx, which only an export needs

    onnx.save_model(
        sentence_graph(tower),
        str(file),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=_WEIGHTS,
        size_threshold=_HALVED_BYTES,
    )


def _write_traced(tower: nn.Module, inputs: tuple[Tensor, ...], file: Path) -> None:
    import onnx

    raw = file.with_suffix(".raw")
    names = _INPUTS[file.stem]
    flexible = {0: "n"} if inputs[0].ndim == 4 else {0: "n", 1: "t"}
    reader = _reader(tower)
    words = None if reader is None else reader.words
    with evaluating(tower), quiet():
        if reader is not None and isinstance(words, nn.Embedding):
            reader.words = _Rounded(words)
        try:
            torch.onnx.export(
                _Unit(tower).eval(),
                inputs,
                str(raw),
                input_names=names,
                output_names=["embedding"],
                dynamic_axes={**dict.fromkeys(names, flexible), "embedding": {0: "n"}},
                opset_version=_OPSET,
                dynamo=False,
            )
        finally:
            if reader is not None:
                reader.words = words
    model = onnx.load(str(raw))
    raw.unlink()
    halve(model)
    write_whole(file, model.SerializeToString())


def _reader(tower: nn.Module) -> Any:  # noqa: ANN401  a module with word vectors
    """Return a tower that has word vectors, None for another."""
    return tower if isinstance(getattr(tower, "words", None), nn.Embedding) else None


def halve(model: Any) -> None:  # noqa: ANN401  onnx has no types
    """Store the float32 weights of an ONNX model in half precision, cast back where they are used."""
    import onnx

    casts = []
    for weight in model.graph.initializer:
        array = onnx.numpy_helper.to_array(weight)
        if (
            array.dtype == np.float32
            and array.nbytes >= _HALVED_BYTES
            and np.abs(array).max() < np.finfo(np.float16).max
        ):
            name = weight.name
            weight.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), f"{name}_h"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}_h"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _check(tower: nn.Module, inputs: tuple[Tensor, ...], space: OnnxSpace, view: View) -> None:
    """Compare an exported tower with the one in torch, on a batch of another size than it was traced with."""
    fewer = tuple(one[:3] for one in inputs)
    with evaluating(tower):
        wanted = normalise(tower(*fewer).numpy())
    got = normalise(space.run_tower(view, *(one.numpy() for one in fewer)))
    least = float((wanted * got).sum(axis=1).min())
    if not least >= _LEAST_COSINE:
        raise TrainingError(
            f"the {view} tower can't be exported: cosine {least:.4f} with torch's; train it with less lr"
        )


def background(towers: nn.ModuleDict, material: Material) -> dict[str, tuple[float, float]]:
    """Return mean and deviation of the cosine between unrelated payloads, for each pair of views."""
    random = np.random.default_rng(0)
    store, texts = material.store, material.examples.texts
    vectors: dict[str, NDArray[np.float32]] = {}
    if "text" in towers:
        rows = random.choice(len(texts), min(_UNRELATED, len(texts)), replace=False)
        with evaluating(towers["text"]):
            tokens = material.tokenised([texts[row].words for row in rows])
            vectors["text"] = normalise(towers["text"](*tokens).numpy())
    if "image" in towers and len(store.pixels):
        rows = random.choice(len(store.pixels), min(_UNRELATED, len(store.pixels)), replace=False)
        vectors["visual"] = _some(picture_vectors(towers, material, [(int(row),) for row in rows]))
    if "sound" in towers and len(store.bounds) > 1:
        rows = random.choice(len(store.bounds) - 1, min(_UNRELATED, len(store.bounds) - 1), replace=False)
        vectors["audio"] = _some(sound_vectors(towers, material, rows.tolist()))
    found = {}
    for one, left in vectors.items():
        for other, right in vectors.items():
            if one <= other:
                cosines = (left @ right.T)[~np.eye(len(left), len(right), dtype=bool)]
                found[f"{one}-{other}"] = (round(float(cosines.mean()), 4), round(float(cosines.std()), 4))
    return found


def _some(vectors: NDArray[np.float32] | None) -> NDArray[np.float32]:
    assert vectors is not None
    return vectors


def _trained_on(recipe: Recipe) -> list[Source]:
    """Return the sources that aren't held out as a whole, nor made of others."""
    return [source for source in recipe.data if source.one_in(recipe.held) != 1 and not source.is_made]


def model_card(recipe: Recipe, figures: Sequence[Figure]) -> str:
    """Return what a user has to know of the model: data, terms, how well it does on what it wasn't trained on."""
    data = "\n".join(f"- {source.name} ({source.kind})" for source in _trained_on(recipe))
    teachers = (
        ", ".join("all-MiniLM-L6-v2" if one.kind == "sentences" else one.file.name for one in recipe.teachers.values())
        or "none"
    )
    models = sorted({tower.model for tower in recipe.towers.values() if tower.kind == "frozen"})
    stands = f"**Stands on** {', '.join(models)}, under the terms of each.\n\n" if models else ""
    measured = f"**Figures** on what was held out, with 95 % intervals:\n\n{table(figures)}\n" if figures else ""
    return (
        f"# {recipe.name}\n\n{recipe.notes.strip()}\n\n{stands}**Trained on**\n\n{data}\n\n"
        f"**Teachers**, as targets only: {teachers}.\n\n{measured}\n**Licence of the weights:** {recipe.licence}.\n"
    )
