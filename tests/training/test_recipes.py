"""Recipes: a wrong one is refused with its name and the field, and those that the project shows can be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import REPOSITORY
from support.tiny_training import RECIPE
from support.tiny_training import captioned as captioned

from mmsearch.errors import UsageError
from mmsearch.files import IrregularFileError
from mmsearch.training.checks import check
from mmsearch.training.lines import read_lines
from mmsearch.training.recipe import read_recipe
from mmsearch.training.run import train_recipe
from mmsearch.training.teachers import class_names


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


def shown_recipes() -> list[str]:
    """Return the recipes that the documents show; one of a single part is completed."""
    found = []
    for file in ("docs/guide/training.md", "docs/training.md"):
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
