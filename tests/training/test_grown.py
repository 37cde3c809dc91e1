"""Grown towers: published networks that stay as they are, the heads on them, and the kinds that a network can tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from support import small_encoder
from torch import Tensor, nn

import mmsearch
from mmsearch.errors import ModelError, UsageError
from mmsearch.training import grown
from mmsearch.training.encoder import LONGEST, SentenceNetwork, read_encoder
from mmsearch.training.grown import GrownTower, make_pieces
from mmsearch.training.kinds import fit_kinds
from mmsearch.training.packing import blocks
from mmsearch.training.recipe import Source
from mmsearch.training.run import train_recipe
from mmsearch.training.sources import read_sources

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 220), "white": (240,) * 3}
GERMAN = {"red": "rot", "green": "grün", "blue": "blau", "white": "weiß"}
WORDS = ["a", "picture", *COLOURS, *GERMAN.values()]
RECIPE = """
name = "tiny"
dim = 32
held = 0
stored = 32

[towers.text]
kind = "grown"
network = "multilingual-e5-small"
hidden = 64
dropout = 0.0

[towers.image]
kind = "grown"
network = "efficientnet-lite2"
side = 32
hidden = 64
dropout = 0.0

[[data]]
kind = "captions"
path = "captions.jsonl"
views = 2

[[data]]
kind = "kinds"
path = "labels.txt"
names = "wordnet.txt"
media = "names.jsonl"

[[stage]]
name = "heads"
train = ["image", "text"]
steps = 60
batch = 16
lr = 3e-3
mix = { "captions.jsonl" = 1.0 }

[[stage.terms]]
kind = "contrast"
between = ["text", "image"]

[[stage.terms]]
kind = "within"
of = "text"

[[stage.terms]]
kind = "kinds"
of = "image"
"""


class Colours(nn.Module):
    """A network that says how bright each quarter of a picture is in each colour, and tells colours apart."""

    width = 12

    def __init__(self) -> None:
        super().__init__()
        means = torch.tensor(list(COLOURS.values())).float().repeat(1, 4) / 100
        self.kinds = nn.Parameter(means, requires_grad=False)

    @property
    def classifier(self) -> np.ndarray:
        return np.asarray((self.kinds - self.kinds.mean(0)).numpy())

    def forward(self, pixels: Tensor) -> Tensor:
        half = pixels.shape[-1] // 2
        pooled = nn.functional.avg_pool2d(pixels, half) + 3.0
        return pooled.flatten(2).transpose(1, 2).flatten(1)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a small encoder and a small network in the place of the published ones."""
    file = tmp_path / "encoder.bin"
    small_encoder.write(file, WORDS)
    monkeypatch.setattr(grown, "package_file", lambda: file)
    monkeypatch.setattr(grown, "PictureNetwork", Colours)
    yield file


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Plain pictures with a caption in two languages, and the names of four kinds."""
    folder = tmp_path / "media"
    folder.mkdir()
    lines = []
    for number in range(24):
        name = list(COLOURS)[number % 4]
        colour = tuple(min(255, value + number) for value in COLOURS[name])
        Image.new("RGB", (40, 40), colour).save(folder / f"{number}.png")
        said = {"en": f"a {name} picture", "de": f"{GERMAN[name]}"}
        lines.append(json.dumps({"image": f"{number}.png", "captions": said}))
    (folder / "captions.jsonl").write_text("\n".join(lines), "utf-8")
    (folder / "labels.txt").write_text("\n".join(["background", *COLOURS]), "utf-8")
    wordnet = [f"n{number}\t{name}" for number, name in enumerate(COLOURS)]
    (folder / "wordnet.txt").write_text("\n".join(wordnet), "utf-8")
    names = [json.dumps({"wnid": f"n{number}", "de": GERMAN[name]}) for number, name in enumerate(COLOURS)]
    (folder / "names.jsonl").write_text("\n".join(names), "utf-8")
    (folder / "tiny.toml").write_text(RECIPE, "utf-8")
    return folder


def test_heads_on_networks_that_stay_find_pictures_in_both_languages_and_are_one_space(
    packages: Path, media: Path, tmp_path: Path
) -> None:
    space = train_recipe(media / "tiny.toml", tmp_path / "space", lambda _: None)
    pictures = mmsearch.embed([media / f"{number}.png" for number in range(4)], model=space)
    for texts in ([f"a {name} picture" for name in COLOURS], list(GERMAN.values())):
        assert (mmsearch.embed(texts, model=space) @ pictures.T).argmax(axis=1).tolist() == [0, 1, 2, 3]
    spec = json.loads((space / "spec.json").read_text("utf-8"))
    assert set(spec["files"]) == {"image.onnx", "text.onnx", "weights.bin", "pieces.npz"}
    assert spec["text"]["languages"] == ["de", "en"]
    nodes = [node.op_type for node in onnx.load(space / "text.onnx", load_external_data=False).graph.node]
    assert nodes.count("MatMulNBits") == 6 * small_encoder.LAYERS


def test_a_network_is_asked_once_whatever_the_stages_are(
    packages: Path, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[nn.Module] = []
    whole = grown.as_graph

    def counted(network: nn.Module, example: Tensor) -> Callable[[np.ndarray], np.ndarray]:
        loaded.append(network)
        return whole(network, example)

    monkeypatch.setattr(grown, "as_graph", counted)
    train_recipe(media / "tiny.toml", tmp_path / "one", lambda _: None)
    (media / "tiny.toml").write_text(RECIPE.replace("steps = 60", "steps = 2"), "utf-8")
    train_recipe(media / "tiny.toml", tmp_path / "two", lambda _: None)
    assert len(loaded) == 1


def test_an_unknown_network_or_one_of_another_side_is_refused(packages: Path, media: Path, tmp_path: Path) -> None:
    for wrong in ("resnet", "multilingual-e5-small"):
        text = RECIPE.replace('network = "efficientnet-lite2"', f'network = "{wrong}"')
        (media / "tiny.toml").write_text(text, "utf-8")
        with pytest.raises(UsageError, match="the grown tower image needs a network of its side"):
            train_recipe(media / "tiny.toml", tmp_path / "space", lambda _: None)


def test_an_encoder_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = small_encoder.write(tmp_path / "e.bin", WORDS)
    read = read_encoder(tmp_path / "e.bin")
    assert read.pieces == small_encoder.pieces_of(WORDS)
    for name, array in written.items():
        np.testing.assert_array_equal(read.arrays[name], array)
    network = SentenceNetwork(read)
    ids = torch.tensor([[0, 5, 8, 2], [0, 9, 2, 1]])
    both = network(ids, torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]))
    alone = network(ids[1:, :3], torch.ones(1, 3, dtype=torch.int64))
    torch.testing.assert_close(both[1:], alone)
    depths = len(network.depths)
    torch.testing.assert_close(both.reshape(2, depths, -1).norm(dim=2), torch.ones(2, depths))


@pytest.mark.parametrize("cut", [0, 3, 40, 200])
def test_a_file_that_holds_no_encoder_is_named(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "e.bin"
    small_encoder.write(file, WORDS)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ModelError, match=r"e\.bin is no sentence encoder"):
        read_encoder(file)


def test_a_vocabulary_keeps_what_its_texts_need_and_reads_everything_else_in_bytes(
    packages: Path, tmp_path: Path
) -> None:
    few = make_pieces(["a red picture", "rot"], 40, tmp_path / "pieces.npz")
    words = np.load(tmp_path / "words.npy")
    whole = read_encoder(packages)
    assert few.vocabulary == len(words) < len(whole.pieces) + 256
    red, prefix = few("red").tolist(), few("").tolist()
    assert red[:-2] == prefix[:-1]
    place = whole.pieces.index("\u2581red")
    np.testing.assert_array_equal(words[red[-2]], whole.arrays["emb.word"][place])
    assert len(few("blau")) > len(few("rot"))  # by its letters
    assert few("ᚠ").tolist() != few("ᚢ").tolist()


def test_four_bit_weights_are_packed_as_they_are_and_others_are_left_alone() -> None:
    random = np.random.default_rng(0)
    _, weights = small_encoder.packed(random, 6, 64)
    found = blocks(weights)
    assert found is not None
    numbers, scales = found
    np.testing.assert_allclose((numbers.astype(float) - 8) * np.repeat(scales, 32, axis=1), weights, atol=1e-6)
    assert blocks(random.normal(size=(6, 64)).astype(np.float32)) is None
    assert blocks(weights[:, :48]) is None


def test_pictures_of_a_kind_are_mostly_what_the_classifier_takes_for_it() -> None:
    random = np.random.default_rng(0)
    centres = random.uniform(0, 3, (8, 20)).astype(np.float32)
    which = random.integers(0, 8, 3_000)
    pictures = np.maximum(centres[which] + random.normal(0, 0.4, (3_000, 20)), 0).astype(np.float32)
    weights = 0.1 * (centres - centres.mean(0))
    kinds = fit_kinds(pictures.astype(np.float16), weights, [(n,) for n in range(8)])
    asked = random.integers(0, 8, 200)
    drawn = kinds.draw(asked, random)
    assert (drawn >= 0).all()
    scores = (drawn - centres.mean(0)) @ weights.T
    assert (scores.argmax(axis=1) == asked).mean() > 0.6  # by chance 0.125
    with pytest.raises(UsageError, match="names 7 kinds, but its network tells 8"):
        fit_kinds(pictures.astype(np.float16), weights, [(n,) for n in range(7)])


def test_a_grown_tower_keeps_no_network_in_its_checkpoint(packages: Path) -> None:
    tower = GrownTower(SentenceNetwork(read_encoder(packages)), 16, 8, 0.0)
    assert not any("words" in name or "layers" in name for name in tower.state_dict())
    assert tower(torch.tensor([[0, 5, 2]]), torch.ones(1, 3, dtype=torch.int64)).shape == (1, 16)
    assert LONGEST == 64


def test_kinds_of_one_label_have_the_names_of_their_own_word(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("background\nhen\ncrane\nzebra, horse\ncrane\n", "utf-8")
    (tmp_path / "wordnet.txt").write_text("n1\then\nn2\tcrane\nn3\tzebra, horse\nn4\tcrane\nn9\tzebra\n", "utf-8")
    names = [{"wnid": "n2", "de": "Kranich"}, {"wnid": "n4", "de": "Kran"}, {"wnid": "n9", "de": "falsch"}]
    (tmp_path / "names.jsonl").write_text("\n".join(map(json.dumps, names)), "utf-8")
    source = Source(
        "kinds", tmp_path / "labels.txt", "kinds", names=tmp_path / "wordnet.txt", media=tmp_path / "names.jsonl"
    )
    examples = read_sources([source], 10)
    said = [[(examples.texts[t].words, examples.texts[t].language) for t in row.texts] for row in examples.rows]
    assert said == [
        [("hen", "en")],
        [("crane", "en"), ("Kranich", "de")],
        [("zebra", "en"), ("horse", "en")],
        [("crane", "en"), ("Kran", "de")],
    ]
    assert all(examples.texts[row.texts[-1]].meaning == row.texts[0] for row in examples.rows)


def test_names_of_a_thing_are_one_example_in_all_languages(tmp_path: Path) -> None:
    (tmp_path / "wordnet.txt").write_text("n2\tcat, true cat\n", "utf-8")
    lines = [{"wnid": "n2", "fr": "chat"}, {"emoji": "🐯", "en": ["tiger", "face"], "de": ["Tiger"]}]
    (tmp_path / "names.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    examples = read_sources([Source("names", tmp_path / "names.jsonl", "names", names=tmp_path / "wordnet.txt")], 10)
    said = [[(examples.texts[t].words, examples.texts[t].language) for t in row.texts] for row in examples.rows]
    assert said[0] == [("cat", "en"), ("true cat", "en"), ("chat", "fr")]
    assert said[1] == [("tiger", "en"), ("face", "en"), ("🐯", "emoji"), ("Tiger", "de")]
