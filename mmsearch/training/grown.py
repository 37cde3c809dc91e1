"""Grown towers: a published network that stays as it is, and a head on what it says, which is trained.

What a network says of every view of every picture and sound, and of every text, is asked for once and kept beside the
decoded media: a stage then takes seconds. The space holds both, network and head, as one tower.
"""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmsearch.errors import UsageError
from mmsearch.spaces.front_ends import Tokens
from mmsearch.spaces.onnx import load_onnxruntime, pad
from mmsearch.spaces.pieces import Pieces, write
from mmsearch.spaces.towers import quiet
from mmsearch.training.batch import Material
from mmsearch.training.encoder import BEGIN, END, LONGEST, PREFIX, SentenceNetwork, package_file, read_encoder
from mmsearch.training.published import PictureNetwork, SoundNetwork
from mmsearch.training.recipe import TowerRecipe
from mmsearch.training.store import Store
from mmsearch.training.taught import ask
from mmsearch.training.towers import SoundTower

NETWORKS = {"efficientnet-lite2": "image", "multilingual-e5-small": "text", "start": "sound"}
"""The networks, with what they look at: published ones, and the sound tower of the space that a recipe starts from."""
_AT_ONCE = 16
_TOKENS = 4_096
"""How many tokens are read at once."""
_LEAST_DEVIATION = 1e-3
_SPECIAL = 4


class GrownTower(nn.Module):
    """What a network says (n, into) → (n, dim): an MLP with a linear skip, on values of mean 0 and deviation 1.

    `forward` takes what the network takes. The network is no part of the state: nothing changes it.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, dim: int, hidden: int, dropout: float, side: int = 0) -> None:
        super().__init__()
        self._network = (network,)
        self.side, self.dim, self.width = side, dim, int(network.width)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("deviation", torch.ones(self.width))
        self.proj = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(self.width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )
        self.skip = nn.Linear(self.width, dim)

    @property
    def network(self) -> nn.Module:
        """The published network."""
        return self._network[0]

    def fit(self, said: NDArray[np.float32]) -> None:
        """Take over mean and deviation of what the network says of some inputs, (n, into)."""
        self.mean = torch.from_numpy(said.mean(0))
        self.deviation = torch.from_numpy(said.std(0)).clamp(min=_LEAST_DEVIATION)

    def features(self, said: Tensor) -> Tensor:
        """Return (n, into) of what the network says, (n, into)."""
        return (said - self.mean) / self.deviation

    def project(self, features: Tensor) -> Tensor:
        """Return (n, dim) of features."""
        return torch.as_tensor(self.proj(features) + self.skip(features))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return (n, dim)."""
        return self.project(self.features(self.network(*inputs)))


def make_network(tower: TowerRecipe, tokens: Tokens | Pieces | None, start: SoundTower | None = None) -> nn.Module:
    """Return the network of a grown tower, with its weights; `start` is the sound tower to start from.

    Raises `UsageError` where the package or the tower is missing.
    """
    match tower.network:
        case "efficientnet-lite2":
            return PictureNetwork()
        case "start" if start is not None:
            return SoundNetwork(start)
        case "multilingual-e5-small" if isinstance(tokens, Pieces):
            return SentenceNetwork(read_encoder(package_file()), np.load(_words_beside(tokens.file)))
    raise UsageError(f"there is no network {tower.network!r} but {', '.join(NETWORKS)}; mend the recipe")


def make_pieces(texts: Sequence[str], most: int, file: Path) -> Pieces:
    """Write the vocabulary that an encoder keeps for these texts, and its vectors beside it; return its front end.

    It keeps every character that is a piece by itself, then the pieces that most texts are cut into, `most` together.
    Bytes, which the encoder never saw, begin with the vector of an unknown piece.
    """
    encoder = read_encoder(package_file())
    whole = file.with_name("all-pieces.npz")
    names = ["" if number < _SPECIAL else piece for number, piece in enumerate(encoder.pieces)]
    write(whole, names, encoder.scores, begin=[], end=[])
    front_end, counts = Pieces(whole, LONGEST), np.zeros(len(names) + 256, np.int64)
    for text in (*texts, PREFIX.strip()):
        counts[np.unique(front_end(text))] += 1
    counts = counts[: len(names)]
    counts[[number for number, name in enumerate(names) if len(name.strip("\u2581")) == 1]] += len(texts)
    counts[front_end(PREFIX.strip())] += len(texts)
    used = np.argsort(-counts, kind="stable")[:most]
    kept = np.sort(np.concatenate([np.arange(_SPECIAL), used[counts[used] > 0]]))
    kept = np.unique(kept)
    places = {int(number): place for place, number in enumerate(kept)}
    around = [BEGIN, *(places[int(number)] for number in front_end(PREFIX.strip()))]
    write(file, [names[number] for number in kept], encoder.scores[kept], begin=around, end=[END])
    words = encoder.arrays["emb.word"]
    unknown = np.repeat(words[3:4], 256, axis=0)
    np.save(_words_beside(file), np.concatenate([words[kept], unknown]).astype(np.float32))
    whole.unlink()
    return Pieces(file, LONGEST)


def _words_beside(file: Path) -> Path:
    return file.with_name("words.npy")


def listen_to(name: str, tower: TowerRecipe, network: nn.Module, material: Material) -> NDArray[np.float16]:
    """Return what a network says of all views of the pictures or sounds, or of all texts, (n, width); kept on disk."""
    store, side = material.store, NETWORKS[tower.network]
    if side == "text":
        return _read(network, material)
    views = store.views if side == "image" else store.hearings
    jobs = [(row, view) for row, many in enumerate(views.tolist()) for view in range(many)]
    key = f"{tower.network} {tower.side} {hashlib.blake2b(views.tobytes(), digest_size=6).hexdigest()}"
    (said,) = ask(_folder(store, key), (name,), len(jobs), _answer(side, tower, network, material, jobs))
    return said


def _answer(
    side: str, tower: TowerRecipe, network: nn.Module, material: Material, jobs: Sequence[tuple[int, int]]
) -> Callable[[int, int], list[NDArray[Any]]]:
    def some(rows: NDArray[np.int64], views: NDArray[np.int64]) -> Tensor:
        return material.pixels(rows, views, tower.side) if side == "image" else material.heard(rows, views)

    fast = cache(lambda: as_graph(network, some(*np.asarray(jobs[:2], np.int64).T)))

    def answer(start: int, stop: int) -> list[NDArray[Any]]:
        said = []
        for first in range(start, stop, _AT_ONCE):
            rows, views = np.asarray(jobs[first : min(stop, first + _AT_ONCE)], np.int64).T
            said.append(fast()(some(rows, views).numpy()))
        return [np.concatenate(said).astype(np.float16)]

    return answer


def as_graph(network: nn.Module, example: Tensor) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return a network as onnxruntime runs it, which on a CPU takes half the time that torch does."""
    content: Any = io.BytesIO()  # torch's types know only of paths
    with quiet():
        torch.onnx.export(
            network,
            (example,),
            content,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
            opset_version=17,
            dynamo=False,
        )
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(content.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda values: np.asarray(session.run(None, {"x": values})[0])


def _read(network: nn.Module, material: Material) -> NDArray[np.float16]:
    """Return what the network says of every text, those of similar length read together."""
    assert material.tokens is not None
    texts = [text.words for text in material.examples.texts]
    unique = sorted(dict.fromkeys(texts), key=lambda words: (len(words), words))
    half = copy.deepcopy(network).to(torch.bfloat16)  # three times as fast, cosine 0.999

    def answer(start: int, stop: int) -> list[NDArray[Any]]:
        ids = [material.tokens(words) for words in unique[start:stop]]  # type: ignore[misc]
        order = np.argsort([len(one) for one in ids], kind="stable")
        out = np.zeros((len(ids), int(network.width)), np.float16)  # type: ignore[arg-type]
        at = 0
        while at < len(order):
            rows = order[at : at + max(1, _TOKENS // len(ids[order[at]]))]
            tokens = (torch.from_numpy(one) for one in pad([ids[row] for row in rows], 0, 0))
            with torch.inference_mode():
                out[rows] = half(*tokens).numpy()
            at += len(rows)
        return [out]

    digest = hashlib.blake2b(material.tokens.file.read_bytes(), digest_size=8).hexdigest()
    (said,) = ask(_folder(material.store, "\n".join((digest, *unique))), ("texts",), len(unique), answer)
    places = {words: row for row, words in enumerate(unique)}
    return np.asarray(said[[places[words] for words in texts]])


def _folder(store: Store, key: str) -> Path:
    return store.folder / f"grown-{hashlib.blake2b(key.encode('utf-8', 'replace'), digest_size=8).hexdigest()}"
