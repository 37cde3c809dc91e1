"""Training: recipes, media decoded ahead, the loop that resumes to the bit, and the space that it ends in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, Run
from PIL import Image, ImageDraw
from torch import Tensor, nn

import mmsearch
from mmsearch.errors import LockedError, ModelError, TrainingError, UsageError
from mmsearch.files import IrregularFileError
from mmsearch.locking import write_lock
from mmsearch.training.checks import check
from mmsearch.training.lines import read_lines
from mmsearch.training.loop import Schedule, train
from mmsearch.training.recipe import read_recipe
from mmsearch.training.run import train_recipe
from mmsearch.training.teachers import class_names

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 180, 30),
    "blue": (30, 30, 220),
    "yellow": (230, 220, 30),
    "white": (240,) * 3,
}
GROUNDS = {
    "black": (0, 0, 0),
    "grey": (128,) * 3,
    "purple": (130, 20, 130),
    "orange": (250, 140, 20),
    "cyan": (20, 220, 220),
}
SHAPES = ("circle", "square", "triangle", "cross")
RECIPE = """
name = "tiny"
dim = 64
held = 0
stored = 48
vocabulary = 200

[towers.image]
kind = "image"
net = "test_byobnet"
side = 48
hidden = 128

[towers.text]
kind = "text"
width = 64

[[data]]
kind = "captions"
path = "captions.jsonl"
views = 1

[[stage]]
name = "joint"
train = ["image", "text"]
steps = 160
batch = 100
lr = 3e-3
warmup = 20

[[stage.terms]]
kind = "contrast"
between = ["text", "image"]
"""


def draw(shape: str, colour: str, ground: str, x: int) -> Image.Image:
    picture = Image.new("RGB", (96, 96), GROUNDS[ground])
    pen, fill, y, r = ImageDraw.Draw(picture), COLOURS[colour], 48, 20
    match shape:
        case "circle":
            pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        case "square":
            pen.rectangle((x - r, y - r, x + r, y + r), fill=fill)
        case "triangle":
            pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=fill)
        case _:
            pen.rectangle((x - r, y - 6, x + r, y + 6), fill=fill)
            pen.rectangle((x - 6, y - r, x + 6, y + r), fill=fill)
    return picture


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 drawn pictures, no two alike, with a caption each."""
    folder = tmp_path_factory.mktemp("captioned")
    lines: list[str] = []
    for colour in COLOURS:
        for ground in GROUNDS:
            for shape in SHAPES:
                for side, x in (("left", 28), ("right", 68)):
                    name = f"{len(lines):03}.png"
                    draw(shape, colour, ground, x).save(folder / name)
                    caption = f"a {colour} {shape} on the {side}, on {ground} ground"
                    lines.append(json.dumps({"image": name, "captions": [caption]}))
    (folder / "captions.jsonl").write_text("\n".join(lines), "utf-8")
    (folder / "tiny.toml").write_text(RECIPE, "utf-8")
    return folder


def said(folder: Path) -> tuple[list[str], list[Path]]:
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text("utf-8").splitlines()]
    return [row["captions"][0] for row in rows], [folder / row["image"] for row in rows]


@pytest.fixture(scope="module")
def trained(captioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The space that the recipe ends in."""
    return train_recipe(captioned / "tiny.toml", tmp_path_factory.mktemp("trained") / "space", lambda _: None)


def test_training_on_200_captioned_pictures_learns_them_and_ends_in_a_space_that_model_takes(
    captioned: Path, trained: Path
) -> None:
    texts, pictures = said(captioned)
    scores = mmsearch.embed(texts, model=trained) @ mmsearch.embed(pictures, model=trained).T
    assert (scores.argmax(axis=1) == np.arange(200)).mean() >= 0.95
    assert (scores.argmax(axis=0) == np.arange(200)).mean() >= 0.95


def test_a_trained_space_says_what_it_was_trained_on_and_under_which_terms(trained: Path) -> None:
    card = (trained / "MODEL_CARD.md").read_text("utf-8")
    assert "captions.jsonl" in card
    assert "that of the training data" in card
    spec = json.loads((trained / "spec.json").read_text("utf-8"))
    assert set(spec["files"]) == {"image.onnx", "text.onnx", "tokenizer.json"}
    mean, deviation = spec["background"]["text-visual"]
    assert -1 < mean < 1
    assert 0 < deviation < 1


class Line(nn.Module):
    """y = 2x + 1, learnt from random points; dropout and a buffer have to be resumed, too."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.Linear(16, 1))
        self.register_buffer("seen", torch.zeros(4))

    def terms(self, step: int, random: np.random.Generator) -> Mapping[str, Tensor]:
        x = torch.from_numpy(random.normal(size=(8, 4)).astype(np.float32))
        self._batch = x
        return {"line": (self.net(x + 0.01 * self.seen) - 2 * x.sum(1, keepdim=True) - 1).pow(2).mean()}

    def stepped(self, step: int) -> None:
        self.seen.lerp_(self._batch.mean(0), 0.1)


def weights(task: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in task.state_dict().items()}


def test_a_run_that_was_stopped_anywhere_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = Line()
    train(whole, Schedule(60, 1e-2, warmup=5), tmp_path / "whole")

    class StoppedError(Exception):
        pass

    for stop in (1, 17, 40, 59):
        folder = tmp_path / str(stop)

        class Stopped(Line):
            def terms(self, step: int, random: np.random.Generator) -> Mapping[str, Tensor]:
                if step == stop:  # noqa: B023  used at once
                    raise StoppedError
                return super().terms(step, random)

        with pytest.raises(StoppedError):
            train(Stopped(), Schedule(60, 1e-2, warmup=5, checkpoint_s=-1.0), folder)
        again = Line()
        with torch.no_grad():
            again.net[0].weight.add_(1.0)  # type: ignore[operator]  # nothing of it may survive
        train(again, Schedule(60, 1e-2, warmup=5, checkpoint_s=-1.0), folder)
        assert weights(again) == weights(whole), f"stopped at {stop}"
        logged = [json.loads(line) for line in (folder / "train.jsonl").read_text("utf-8").splitlines()]
        assert [line["step"] for line in logged] == [20, 40, 60]


def test_a_killed_command_gives_the_same_weights_as_one_that_ran_through(captioned: Path, tmp_path: Path) -> None:
    recipe = captioned / "short.toml"
    recipe.write_text(RECIPE.replace("steps = 160", "steps = 24").replace("warmup = 20", "warmup = 2"), "utf-8")
    program = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from mmsearch.training import loop, run\n"
        "made = loop.Schedule.__init__\n"
        "made.__defaults__ = tuple(0.0 if one == 120.0 else one for one in made.__defaults__)\n"
        "run.train_recipe(Path(sys.argv[1]), Path(sys.argv[2]), print)\n"
    )

    def start(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", program, str(recipe), str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    assert start(tmp_path / "whole").wait(200) == 0
    killed = start(tmp_path / "killed")
    checkpoint = tmp_path / "killed" / "training" / "1-joint.checkpoint"
    patience = time.monotonic() + 100
    while not checkpoint.is_file() and time.monotonic() < patience:
        time.sleep(0.02)
    time.sleep(0.5)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "spec.json").exists()
    assert 0 < torch.load(checkpoint, weights_only=True)["step"] < 24, "it was killed too late or too early"
    assert start(tmp_path / "killed").wait(200) == 0
    names = sorted(path.name for path in (tmp_path / "whole").iterdir() if path.is_file())
    assert {"image.onnx", "text.onnx", "spec.json"} <= set(names)
    for name in names:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_losses_that_are_no_longer_finite_end_the_run_and_spare_the_checkpoint(tmp_path: Path) -> None:
    class Bad(Line):
        def terms(self, step: int, random: np.random.Generator) -> Mapping[str, Tensor]:
            found = dict(super().terms(step, random))
            return {"line": found["line"] * float("nan")} if step == 7 else found

    with pytest.raises(TrainingError, match=r"no longer finite at step 7 .*lower lr"):
        train(Bad(), Schedule(10, 1e-2, checkpoint_s=-1.0), tmp_path)
    assert torch.load(tmp_path / "train.checkpoint", weights_only=True)["step"] == 7


def test_a_checkpoint_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    train(Line(), Schedule(2, 1e-2), tmp_path)

    class Wider(Line):
        def __init__(self) -> None:
            super().__init__()
            self.more = nn.Linear(2, 2)

    with pytest.raises(UsageError, match=r"train\.checkpoint is of another recipe or damaged .*delete it"):
        train(Wider(), Schedule(2, 1e-2), tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("dim = 64", "dim = '64'", r"dim is '64', but has to be int"),
        ("steps = 160", "stepps = 160", r"stage\.0\.stepps is no field"),
        ('net = "test_byobnet"', "net = 5", r"towers\.image\.net is 5, but has to be str"),
        ('train = ["image", "text"]', 'train = ["pictures"]', r"stage joint names 'pictures'"),
        ("dim = 64", "", r"lacks a field .*dim"),
        ("dim = 64", "dim = ", r"is no TOML"),
        (
            'kind = "captions"\npath = "captions.jsonl"',
            'kind = "captions"\npath = "none.jsonl"',
            r"none\.jsonl can't be read",
        ),
        ('kind = "captions"\npath', 'kind = "photos"\npath', r"of a kind not among captions, clips, files, folders"),
        ('path = "captions.jsonl"\n', "", r"data\.0 lacks a field \(path\)"),
        ("[[stage]]", '[[data]]\nkind = "moments"\n\n[[stage]]', r"the source moments makes moments: it needs things"),
        ('kind = "contrast"', 'kind = "contrats"', r"there is no term 'contrats', but contrast"),
        ('between = ["text", "image"]', 'between = ["text"]', r"contrast is between two towers"),
        ('name = "tiny"', 'name = "../tiny"', r"'../tiny' is no plain file name"),
        ("stored = 48", 'stored = 48\nstart = "nowhere"', r"nowhere doesn't exist; mend start"),
        ('kind = "contrast"', 'kind = "features"\nof = "image"', r"features of image needs a teacher"),
        ("batch = 100", "batch = 0", r"batch and log_every of 1 or more"),
        ("[towers.image]", "[towers.photo]", r"the tower photo is of the kind image, so it has to be called that"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_name_and_the_field(
    captioned: Path, tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert before in RECIPE
    recipe = captioned / "wrong.toml"
    recipe.write_text(RECIPE.replace(before, after), "utf-8")
    with pytest.raises(UsageError, match=said) as error:
        train_recipe(recipe, tmp_path / "out", lambda _: None)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "spec.json").exists()


def test_a_run_whose_recipe_changed_is_not_gone_on_with(captioned: Path, tmp_path: Path) -> None:
    recipe = captioned / "changed.toml"
    short = RECIPE.replace("steps = 160", "steps = 2").replace("warmup = 20", "warmup = 1")
    recipe.write_text(short, "utf-8")
    train_recipe(recipe, tmp_path / "space", lambda _: None)
    recipe.write_text(short.replace("lr = 3e-3", "lr = 1e-3"), "utf-8")
    with pytest.raises(UsageError, match=r"1-joint\.checkpoint is of another recipe .*have changed.*another --out"):
        train_recipe(recipe, tmp_path / "space", lambda _: None)
    recipe.write_text(short.replace('name = "tiny"', f'name = "tiny"\nstart = "{tmp_path / "space"}"'), "utf-8")
    with pytest.raises(UsageError, match="is the space that the recipe starts from"):
        train_recipe(recipe, tmp_path / "space", lambda _: None)
    assert (tmp_path / "space" / "spec.json").is_file()


def test_two_runs_do_not_train_in_one_folder(captioned: Path, tmp_path: Path) -> None:
    (captioned / "locked.toml").write_text(RECIPE, "utf-8")
    (tmp_path / "space" / "training").mkdir(parents=True)
    with write_lock(tmp_path / "space" / "training"), pytest.raises(LockedError, match=r"PID \d+ .* is writing"):
        train_recipe(captioned / "locked.toml", tmp_path / "space", lambda _: None)


def test_a_recipe_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml can't be read"):
        read_recipe(tmp_path / "none.toml")


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices as POSIX systems have them")
def test_what_a_recipe_reads_neither_blocks_nor_fills_the_memory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "device.toml").symlink_to("/dev/zero")
    with (tmp_path / "large.toml").open("wb") as large:
        large.truncate(2**40)
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    for name in ("pipe", "device", "large"):
        with pytest.raises(UsageError, match=rf"{name}\.toml can't be read \(it .*\); name a recipe"):
            read_recipe(tmp_path / f"{name}.toml")
    with pytest.raises(UsageError, match=r"deep\.toml is no TOML"):
        read_recipe(tmp_path / "deep.toml")
    for name in ("pipe", "device"):
        with pytest.raises(IrregularFileError):
            next(read_lines(tmp_path / f"{name}.toml"))
        with pytest.raises(IrregularFileError):
            class_names(tmp_path / f"{name}.toml")


def test_towers_start_from_an_exported_space_and_answer_as_it_did(
    captioned: Path, trained: Path, tmp_path: Path
) -> None:
    recipe = captioned / "start.toml"
    copied = tmp_path / "start"
    shutil.copytree(trained, copied)
    begins = (
        RECIPE.replace("steps = 160", "steps = 1")
        .replace("lr = 3e-3", "lr = 0.0")
        .replace("stored = 48", f'stored = 48\nstart = "{copied}"\ntokenizer = "{copied}/tokenizer.json"')
    )
    recipe.write_text(begins, "utf-8")
    space = train_recipe(recipe, tmp_path / "space", lambda _: None)
    texts, pictures = said(captioned)
    for items in (texts, pictures):
        old, new = (mmsearch.embed(items, model=model) for model in (trained, space))
        assert (old * new).sum(axis=1).min() > 0.995


def test_a_start_of_another_architecture_is_refused_by_its_file(captioned: Path, trained: Path, tmp_path: Path) -> None:
    recipe = captioned / "misfit.toml"
    recipe.write_text(
        RECIPE.replace("width = 64", "width = 32").replace(
            "stored = 48", f'stored = 48\nstart = "{trained}"\ntokenizer = "{trained}/tokenizer.json"'
        ),
        "utf-8",
    )
    with pytest.raises(ModelError, match=r"text\.onnx doesn't fit the recipe's tower"):
        train_recipe(recipe, tmp_path / "space", lambda _: None)


def shown_recipes() -> list[str]:
    """Return the recipes that the documents show; one of a single part is completed."""
    found = []
    for file in ("README.md", "docs/training.md"):
        blocks = (REPOSITORY / file).read_text("utf-8").split("```toml\n")[1:]
        found += [block.split("```")[0] for block in blocks]
    return found


@pytest.mark.parametrize("number", range(2))
def test_the_recipes_that_the_documents_show_can_be_read(tmp_path: Path, number: int) -> None:
    assert len(shown_recipes()) == 2
    words = shown_recipes()[number]
    if "[[data]]" not in words:
        words = 'name = "shown"\ndim = 512\ndata = [{ kind = "files", path = "media" }]\n' + words
    (tmp_path / "recipe.toml").write_text(words, "utf-8")
    recipe = read_recipe(tmp_path / "recipe.toml")
    assert recipe.stage[0].terms[0].kind == "contrast"
    assert recipe.data[0].path.parent == tmp_path


def test_the_recipe_of_the_embedded_space_can_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDIA", str(tmp_path / "media"))
    monkeypatch.setenv("START", str(tmp_path / "start"))
    recipe = read_recipe(REPOSITORY / "recipes" / "mini.toml")
    assert recipe.data[0].path == tmp_path / "media" / "flickr8k" / "captions.jsonl"
    assert recipe.tokenizer == tmp_path / "start" / "tokenizer.json"
    assert [stage.name for stage in recipe.stage] == [
        "features",
        "texts",
        "photos",
        "words",
        "patience",
        "sounds",
        "clips",
        "moments",
    ]


def test_the_recipe_of_the_next_embedded_space_says_what_its_towers_are_grown_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEDIA", str(tmp_path / "media"))
    monkeypatch.setenv("START", str(tmp_path))
    file = REPOSITORY / "recipes" / "mini2.toml"
    recipe = read_recipe(file)
    check(recipe, file)
    grown = {name: tower.network for name, tower in recipe.towers.items() if tower.kind == "grown"}
    assert grown == {"text": "multilingual-e5-small", "image": "efficientnet-lite2", "sound": "start"}
    assert recipe.data[0].more == tmp_path / "media" / "flickr8k" / "more_languages.jsonl.gz"
    languages = {source.languages[1] for source in recipe.data if source.name.startswith("everyday-")}
    assert len(languages) == 28


def test_train_is_a_command_that_says_where_its_space_is(captioned: Path, run: Run, tmp_path: Path) -> None:
    recipe = captioned / "command.toml"
    recipe.write_text(RECIPE.replace("steps = 160", "steps = 2").replace("warmup = 20", "warmup = 1"), "utf-8")
    done = run("train", recipe, "--out", tmp_path / "space")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'space'} is ready; --model takes it\n")
    assert "stage joint: 2 steps of 100, training image, text" in done.stderr
    library = tmp_path / "library"
    assert run("index", captioned / "000.png", "--model", tmp_path / "space", library=library).returncode == 0
    assert run("query", "a red circle", library=library).returncode == 0
    wrong = run("train", tmp_path / "none.toml")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
