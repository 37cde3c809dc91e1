"""Stages of training: what batches are drawn, and what each kind of term learns, keeps and leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmsearch.errors import UsageError
from mmsearch.training.augment import CodeSwitch, beginning, crop, hearing, read_dictionaries
from mmsearch.training.batch import Draw, Material
from mmsearch.training.joint import Joint, alike
from mmsearch.training.loop import Schedule, train
from mmsearch.training.outputs import blended
from mmsearch.training.recipe import Source, StageRecipe, TermRecipe, TowerRecipe
from mmsearch.training.sources import Example, Examples
from mmsearch.training.store import Store, Unit
from mmsearch.training.taught import Targets
from mmsearch.training.towers import TeacherTower

UNITS = 24
RECIPES = {"image": TowerRecipe("teacher", of="image"), "sound": TowerRecipe("teacher", of="sound")}


def material(tmp_path: Path) -> Material:
    """24 moments in six tags: a teacher sees and hears the same direction in each, and a little noise."""
    random = np.random.default_rng(0)
    source = Source("clips", tmp_path, name="moments")
    examples = Examples([source])
    for n in range(UNITS):
        tag = examples.tag(f"thing {n % 6}", ("{}",))
        examples.rows.append(Example(0, tmp_path / f"{n}.mp4", (), tag, n >= 18, n))
    units = tuple(Unit(n, (n,), n) for n in range(UNITS))
    seen = random.normal(size=(UNITS, 8)).astype(np.float32)
    heard = np.concatenate([seen[:, ::-1], random.normal(size=(UNITS, 2))], axis=1).astype(np.float32)
    pixels = random.integers(0, 255, (UNITS, 8, 8, 3)).astype(np.uint8)
    waves, bounds = np.zeros(UNITS * 16_000, np.float16), np.arange(UNITS + 1) * 16_000
    store = Store(tmp_path, units, pixels, waves, bounds, *(np.ones(UNITS, np.int64) for _ in range(2)))
    none = np.zeros((UNITS, 1), np.int64), np.ones((UNITS, 1), np.float32), ("thing",)
    return Material(
        examples, store, {"image": Targets(seen, *none), "sound": Targets(heard, *none)}, None, None, CodeSwitch({})
    )


def towers(folds: int = 1, dropout: float = 0.0) -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"image": TeacherTower(8, 16, 32, folds, dropout), "sound": TeacherTower(10, 16, 32, folds, dropout)}
    )


def stage(*terms: TermRecipe, **fields: object) -> StageRecipe:
    made = StageRecipe("test", ("image", "sound"), terms, steps=60, lr=1e-2, batch=12)
    return replace(made, **fields)  # type: ignore[arg-type]


PAIR = ("image", "sound")
CONTRAST = TermRecipe("contrast", PAIR)
INSTANCE = TermRecipe("instance", PAIR, negatives=8, mode="cross")


def right(made: nn.ModuleDict, of: Material) -> float:
    """Return how many sounds find the very picture that they belong to among all that were trained on."""
    folds = torch.full((18,), -1)
    made.eval()
    with torch.no_grad():
        sides = [made[side].features(torch.from_numpy(of.targets[side].layer[:18]), folds) for side in PAIR]  # type: ignore[operator]
    return float(
        (nn.functional.normalize(sides[1]) @ nn.functional.normalize(sides[0]).T)
        .argmax(1)
        .eq(torch.arange(18))
        .float()
        .mean()
    )


@pytest.mark.parametrize(
    ("terms", "fields"),
    [
        ((CONTRAST,), {}),
        ((replace(CONTRAST, queue=16),), {"momentum": 0.9}),
        ((INSTANCE,), {"steps": 150}),
        ((INSTANCE, TermRecipe("agreement", PAIR, positives=2, every=50, weight=0.1)), {"steps": 150}),
    ],
    ids=["contrast", "queue", "AVID", "CMA"],
)
def test_terms_between_two_sides_bring_together_what_belongs_together(
    tmp_path: Path, terms: Sequence[TermRecipe], fields: dict[str, object]
) -> None:
    of, made = material(tmp_path), towers()
    assert right(made, of) < 0.3
    task = Joint(made, RECIPES, stage(*terms, **fields), of)
    train(task, replace(stage(*terms, **fields).schedule(0), checkpoint_s=1e9), tmp_path / "run")
    assert right(made, of) > 0.8


def test_the_same_step_draws_the_same_and_nothing_that_is_held_out(tmp_path: Path) -> None:
    of = material(tmp_path)
    draw = Draw(of, stage(CONTRAST))
    first, again = (draw(np.random.default_rng([0, 3])) for _ in range(2))
    assert first.units.tolist() == again.units.tolist()
    drawn = {unit for step in range(50) for unit in draw(np.random.default_rng([0, step])).units.tolist()}
    assert drawn == set(range(18))


def test_a_stage_that_draws_from_what_is_all_held_out_is_refused(tmp_path: Path) -> None:
    of = material(tmp_path)
    of.examples.rows = [replace(row, held=True) for row in of.examples.rows]
    with pytest.raises(UsageError, match="draws from moments, of which all is held out"):
        Draw(of, stage(CONTRAST, mix={"moments": 1.0}))


def test_what_is_of_one_example_or_one_tag_is_positive() -> None:
    ids, tags = torch.tensor([1, 1, 2, 3]), torch.tensor([-1, 5, 5, -1])
    plain = alike(ids, ids, tags, tags, tagged=False)
    assert plain.int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    tagged = alike(ids, ids, tags, tags, tagged=True)
    assert tagged.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]


def test_the_queue_holds_the_last_keys_and_the_slow_encoder_follows(tmp_path: Path) -> None:
    of, made = material(tmp_path), towers()
    task = Joint(made, RECIPES, stage(replace(CONTRAST, queue=16), momentum=0.9), of)
    before = task.slow["image"].heads[0][0].weight.detach().clone()  # type: ignore[union-attr,index]
    train(task, Schedule(3, 1e-2, checkpoint_s=1e9), tmp_path / "run")
    queue = task.kept["0-image"]
    assert queue.filled == 16
    slow, fast = (towers["image"].heads[0][0].weight.detach() for towers in (task.slow, task.towers))  # type: ignore[union-attr,index]
    assert 0 < float((slow - before).norm()) < float((fast - before).norm())
    assert not any(weight.requires_grad for weight in task.slow.parameters())


def test_banks_remember_the_instances_of_a_batch_and_no_others(tmp_path: Path) -> None:
    of, made = material(tmp_path), towers()
    task = Joint(made, RECIPES, stage(INSTANCE, batch=5), of)
    bank = task.kept["bank-image"]
    before = bank.memory.clone()  # type: ignore[operator]
    random = np.random.default_rng([0, 0])
    drawn = set(Draw(of, stage(INSTANCE, batch=5))(np.random.default_rng([0, 0])).units.tolist())
    task.terms(0, random)
    assert torch.equal(bank.memory, before), "scored before it is updated"  # type: ignore[arg-type]
    task.stepped(0)
    moved = (bank.memory != before).any(1).nonzero().flatten().tolist()  # type: ignore[union-attr]
    assert set(moved) == drawn
    assert float(bank.partition) > 0  # type: ignore[arg-type]


def test_blended_batches_are_not_remembered_and_teach_only_what_blends(tmp_path: Path) -> None:
    of, made = material(tmp_path), towers()
    match = TermRecipe("match", of="image", to="image")
    task = Joint(made, RECIPES, stage(INSTANCE, match, mixup=1.0), of)
    before = task.get_submodule("kept.bank-image").get_buffer("memory").clone()
    assert set(task.terms(0, np.random.default_rng(0))) == {"match-image-image"}
    task.stepped(0)
    assert torch.equal(task.get_submodule("kept.bank-image").get_buffer("memory"), before)


def test_two_terms_of_one_kind_both_count(tmp_path: Path) -> None:
    of, made = material(tmp_path), towers()
    task = Joint(made, RECIPES, stage(CONTRAST, replace(CONTRAST, tags=True)), of)
    assert set(task.terms(0, np.random.default_rng(0))) == {"contrast-image-sound", "contrast-image-sound-1"}


def test_batches_from_which_nothing_can_be_learnt_end_the_run_with_the_stage_named(tmp_path: Path) -> None:
    of, made = material(tmp_path), towers()
    with pytest.raises(UsageError, match="the stage test draws batches from which none of its terms can learn"):
        Joint(made, RECIPES, stage(CONTRAST, batch=1), of).terms(0, np.random.default_rng(0))


def test_positives_are_mined_only_after_the_banks_have_learnt(tmp_path: Path) -> None:
    of, made = material(tmp_path), towers()
    terms = (INSTANCE, TermRecipe("agreement", PAIR, positives=3, every=10))
    task = Joint(made, RECIPES, stage(*terms), of)
    names = {step: set(task.terms(step, np.random.default_rng(step))) for step in (0, 9, 10)}
    assert names[0] == names[9] == {"instance-image-sound"}
    assert names[10] == {"instance-image-sound", "agreement-image-sound"}
    mined = task.get_buffer("positives1")
    assert mined.shape == (18, 3)
    assert not any(row in mined[row].tolist() for row in range(18))


def test_a_head_learns_nothing_from_its_own_fold_and_speaks_of_it_alone() -> None:
    tower = towers(folds=3)["image"]
    layer = torch.randn(4, 8)
    for own in range(3):
        tower.zero_grad()
        tower.train()
        for _ in range(8):
            tower.features(layer, torch.full((4,), own)).sum().backward()  # type: ignore[operator]
        learnt = [head[0].weight.grad is not None and bool(head[0].weight.grad.any()) for head in tower.heads]  # type: ignore[union-attr]
        assert learnt == [n != own for n in range(3)]
        tower.eval()
        with torch.no_grad():
            said = tower.features(layer, torch.full((4,), own))  # type: ignore[operator]
            alone = tower.heads[own](layer) + tower.skips[own](layer)  # type: ignore[index,operator]
        assert torch.allclose(said, nn.functional.normalize(alone, dim=1))


def test_what_a_stage_does_not_train_stays_and_is_not_in_its_checkpoint(tmp_path: Path) -> None:
    of, made = material(tmp_path), towers()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    task = Joint(made, RECIPES, stage(CONTRAST, train=("sound",)), of)
    train(task, Schedule(5, 1e-2, checkpoint_s=1e9), tmp_path / "run")
    changed = {name.split(".")[0] for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"sound"}
    assert {name.split(".")[1] for name in task.state_dict() if name.startswith("towers.")} == {"sound"}


def test_blending_keeps_the_mean_and_pairs_pictures_as_the_batch_says(tmp_path: Path) -> None:
    of = material(tmp_path)
    batch = Draw(of, stage(CONTRAST, mixup=1.0, batch=6))(np.random.default_rng(1))
    assert batch.blend is not None
    partner, share = batch.blend
    values = torch.arange(6.0)[:, None]
    mixed = blended(values, batch, "image")
    assert torch.allclose(mixed[:, 0], share * values[:, 0] + (1 - share) * torch.from_numpy(partner).float())
    assert blended(values, batch, "text") is values


def test_a_view_is_the_same_each_time_and_view_0_is_the_whole_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    assert np.array_equal(crop(pixels, 5, 0, 32), pixels)
    views = [crop(pixels, 5, view, 16).tobytes() for view in range(1, 6)]
    assert views == [crop(pixels, 5, view, 16).tobytes() for view in range(1, 6)]
    assert len(set(views)) == 5
    assert views[0] != crop(pixels, 6, 1, 16).tobytes()


def test_a_view_of_a_sound_is_the_same_each_time_and_view_0_is_all_of_it() -> None:
    random = np.random.default_rng(0)
    wave, other = (random.uniform(-0.2, 0.2, many).astype(np.float32) for many in (80_000, 9_000))
    assert np.array_equal(hearing(wave, other, 5, 0, 16_000), wave)
    short = beginning(wave[:20_000], 48_000)
    assert len(short) == 48_000
    assert np.array_equal(short[20_000:40_000], wave[:20_000])
    views = [hearing(wave, other, 5, view, 16_000) for view in range(1, 30)]
    assert all(view.shape == (48_000,) and view.dtype == np.float32 and np.abs(view).max() <= 1.0 for view in views)
    assert [view.tobytes() for view in views] == [
        hearing(wave, other, 5, view, 16_000).tobytes() for view in range(1, 30)
    ]
    assert len({view.tobytes() for view in views}) == 29
    assert views[0].tobytes() != hearing(wave, other, 6, 1, 16_000).tobytes()


def test_a_view_of_a_sound_is_mostly_that_sound() -> None:
    """Of tones, so that what is faster, slower, or another is told by its frequency."""
    times = np.arange(80_000) / 16_000
    wave, other = (np.sin(2 * np.pi * hertz * times).astype(np.float32) for hertz in (440, 2_000))
    bins = np.fft.rfftfreq(48_000, 1 / 16_000)
    mixed, speeds = 0, []
    for view in range(1, 60):
        power = np.abs(np.fft.rfft(hearing(wave, other, 0, view, 16_000))) ** 2
        own, foreign = (power[(bins > low) & (bins < high)] for low, high in ((340, 560), (1_990, 2_010)))
        speeds.append(bins[(bins > 340) & (bins < 560)][own.argmax()] / 440)
        mixed += foreign.max() > 0.02 * own.max()
        assert foreign.sum() < 1.5 * own.sum(), "a filter may lift the other a little"
    assert 15 < mixed < 45
    assert 0.79 < min(speeds) < 0.9
    assert 1.1 < max(speeds) < 1.26
    assert sum(abs(speed - 1) < 0.002 for speed in speeds) > 15


def test_a_view_of_a_sound_is_none_of_its_silences_and_lifts_none_of_anothers() -> None:
    random = np.random.default_rng(0)
    wave = np.concatenate([np.zeros(70_000), random.uniform(-0.2, 0.2, 90_000)]).astype(np.float32)
    hiss = (1e-5 * random.normal(size=48_000)).astype(np.float32)
    for view in range(1, 40):
        assert np.mean(hearing(wave, wave, 0, view, 16_000) ** 2) > 1e-6
        alone, behind = (hearing(wave, other, 0, view, 16_000) for other in (np.zeros_like(hiss), hiss))
        assert np.mean((behind - alone) ** 2) < 0.01 * np.mean(alone**2)


def test_towers_hear_what_their_teacher_heard(tmp_path: Path) -> None:
    """A teacher that says of a sound how loud each of its tenths is."""
    of, random = material(tmp_path), np.random.default_rng(0)
    waves = random.uniform(-0.3, 0.3, of.store.waves.shape).astype(np.float16)
    many = np.asarray([1, 3, 4] * (UNITS // 3))
    of.store = replace(of.store, waves=waves, hearings=many)
    heard = [of.store.hear(row, view) for row in range(UNITS) for view in range(many[row])]
    layer = np.stack([np.abs(beginning(wave, 48_000)).reshape(10, -1).mean(1) for wave in heard])
    of.targets = {"sound": replace(of.targets["sound"], layer=layer)}
    draw = Draw(of, stage(CONTRAST))
    drawn = set()
    for step in range(30):
        batch = draw(np.random.default_rng(step))
        rows, views = batch.shown("sound")
        assert torch.allclose(
            of.layer("sound", rows, views), of.heard(rows, views).abs().reshape(len(rows), 10, -1).mean(2)
        )
        drawn |= set(zip(rows.tolist(), views.tolist(), strict=True))
    assert drawn == {(row, view) for row in range(18) for view in range(min(1, many[row] - 1), many[row])}


def test_code_switching_replaces_the_words_that_a_dictionary_knows() -> None:
    switch = read_dictionaries(
        {"en-de": Path(), "en-fr": Path()}, {"en-de": ["dog\tHund", "red\trot"], "en-fr": ["dog\tchien"]}
    )
    said = {switch("The dog, red!", "en", 1.0, np.random.default_rng(n)) for n in range(40)}
    assert said == {"The Hund, rot!", "The chien, rot!"}
    assert switch("Der Hund", "de", 1.0, np.random.default_rng(0)) == "Der dog"
    assert switch("The dog", "en", 0.0, np.random.default_rng(0)) == "The dog"
    kept = [switch("dog " * 10, "en", 0.8, np.random.default_rng(n)) for n in range(300)]
    whole = np.mean([words == "dog " * 10 for words in kept])
    words = np.mean([words.split().count("dog") / 10 for words in kept if words != "dog " * 10])
    assert 0.13 < whole < 0.27
    assert 0.15 < words < 0.25
