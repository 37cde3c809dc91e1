"""Two hundred drawn pictures with captions, and the recipe of a tiny space that learns them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

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
