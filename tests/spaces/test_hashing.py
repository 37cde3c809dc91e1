"""The space `hashing` puts a colour's name beside its picture."""

from __future__ import annotations

from PIL import Image

from mmsearch.spaces import embed, load_profile
from mmsearch.types import View


def test_the_word_red_is_nearest_to_the_red_picture_in_hashing() -> None:
    space = load_profile("hashing").spaces[0]
    colours = ["red", "green", "blue", "yellow"]
    words = embed(space, View.TEXT, colours)
    pictures = embed(space, View.VISUAL, [Image.new("RGB", (40, 40), colour) for colour in colours])
    assert (words @ pictures.T).argmax(axis=1).tolist() == [0, 1, 2, 3]
