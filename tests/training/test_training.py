"""Training: the loop that resumes to the bit, and the space that it ends in or starts from."""

from __future__ import annotations

import json
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
from conftest import Run
from support.tiny_training import RECIPE
from support.tiny_training import captioned as captioned
from torch import Tensor, nn

import mmsearch
from mmsearch.errors import LockedError, ModelError, TrainingError, UsageError
from mmsearch.locking import write_lock
from mmsearch.training.loop import Schedule, train
from mmsearch.training.run import train_recipe


@pytest.fixture(scope="module")
def trained(captioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The space that the recipe ends in."""
    return train_recipe(captioned / "tiny.toml", tmp_path_factory.mktemp("trained") / "space", lambda _: None)


def said(folder: Path) -> tuple[list[str], list[Path]]:
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text("utf-8").splitlines()]
    return [row["captions"][0] for row in rows], [folder / row["image"] for row in rows]


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
