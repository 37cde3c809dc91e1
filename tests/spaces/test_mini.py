"""The embedded space computes what its own spec says, and knows what sentences and photos mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.payloads import MINI, fingerprint_with, picture, tone, towers
from support.payloads import mini as mini
from tokenizers import Tokenizer

from mmsearch.spaces import TextFrontEnd, embed
from mmsearch.spaces.onnx import OnnxSpace
from mmsearch.types import View

if TYPE_CHECKING:
    from mmsearch.types import Payload


def directly(tower: str, **feeds: NDArray[Any]) -> NDArray[np.float32]:
    session = ort.InferenceSession(str(MINI / towers()[tower]["file"]), providers=["CPUExecutionProvider"])
    row = np.asarray(session.run(None, feeds)[0][0], np.float32)
    return np.asarray(row / np.linalg.norm(row), np.float32)


@pytest.mark.parametrize("text", ["a red car", "Zwei Hunde spielen im Schnee.", "déjà vu", "kočka na střeše", ""])
def test_mini_embeds_a_text_as_its_spec_says(mini: OnnxSpace, text: str) -> None:
    words = Tokenizer.from_file(str(MINI / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    ids = np.asarray([[2, *words, 3]], np.int64)  # [CLS]=2 [SEP]=3
    expected = directly("text", ids=ids, mask=np.ones_like(ids))
    assert embed(mini, View.TEXT, [text])[0] @ expected >= 0.9999


@pytest.mark.parametrize("name", ["cat.png", "coffee.jpg"])
def test_mini_embeds_a_picture_as_its_spec_says(mini: OnnxSpace, name: str) -> None:
    spec = towers()["image"]
    with Image.open(MINI.parent / "samples" / "photos" / name) as image:
        photo = image.convert("RGB")
    squashed = np.asarray(photo.resize((spec["size"], spec["size"]), Image.Resampling.BILINEAR), np.float32)
    pixels = (squashed - np.asarray(spec["mean"], np.float32)) / np.asarray(spec["std"], np.float32)
    expected = directly("image", pixels=np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
    assert embed(mini, View.VISUAL, [photo])[0] @ expected >= 0.9999


@pytest.mark.parametrize("seconds", [0.3, 1.0, 4.2])
def test_mini_embeds_a_sound_as_its_spec_says(mini: OnnxSpace, seconds: float) -> None:
    wave = tone(440, seconds)
    padded = np.zeros(max(16_000, len(wave)), np.float32)
    padded[: len(wave)] = wave
    expected = directly("audio", wave=padded[None])
    assert embed(mini, View.AUDIO, [wave])[0] @ expected >= 0.9999


def test_the_front_ends_of_mini_give_what_its_towers_take(mini: OnnxSpace) -> None:
    pixels = mini.front_ends[View.VISUAL](picture("red"))
    assert (pixels.shape, pixels.dtype.name) == ((160, 160, 3), "uint8")
    assert pixels[120, 120].tolist() == [255, 0, 0]
    ids = mini.front_ends[View.TEXT]("red car")
    assert (ids.dtype.name, ids[0], ids[-1]) == ("int64", 2, 3)
    wave = mini.front_ends[View.AUDIO](tone(440, 0.5))
    assert (wave.shape, wave.dtype.name) == ((16_000,), "float32")
    assert not wave[8_000:].any()


def test_mini_cuts_what_is_longer_than_its_towers_take(mini: OnnxSpace) -> None:
    front_end = mini.front_ends[View.TEXT]
    assert isinstance(front_end, TextFrontEnd)
    ids = front_end("red car " * 100)
    assert (len(ids), ids[0], ids[-1]) == (64, 2, 3)
    np.testing.assert_array_equal(ids, front_end("red car " * (front_end.max_tokens // 2)))
    long = tone(440, 31.0)
    np.testing.assert_array_equal(mini.front_ends[View.AUDIO](long), long[: 30 * 16_000])


@pytest.mark.parametrize(("view", "wrong"), [(View.VISUAL, "red"), (View.TEXT, 5), (View.AUDIO, np.zeros((2, 100)))])
def test_a_front_end_of_mini_refuses_a_payload_of_another_view(mini: OnnxSpace, view: View, wrong: Payload) -> None:
    with pytest.raises(TypeError, match="takes a"):
        mini.front_ends[view](wrong)


def test_sentences_of_the_same_meaning_are_nearest_in_every_language_of_mini(mini: OnnxSpace) -> None:
    meanings = [
        ("a dog runs through the snow", "ein Hund rennt durch den Schnee", "un chien court dans la neige"),
        ("a man plays the guitar on a stage", "ein Mann spielt Gitarre", "muž hraje na kytaru na pódiu"),
        ("children play on the beach", "des enfants jouent sur la plage", "děti si hrají na pláži"),
    ]
    vectors = embed(mini, View.TEXT, [text for row in meanings for text in row])
    cosines = vectors @ vectors.T
    same = np.kron(np.eye(3, dtype=np.bool_), np.ones((3, 3), np.bool_))
    assert cosines[same].min() > cosines[~same].max() + 0.3


def test_captions_of_mini_are_on_the_whole_nearer_to_their_own_photos(mini: OnnxSpace) -> None:
    captions = {
        "cat.png": "a cat",
        "tiger.jpg": "a tiger",
        "drums.jpg": "a drum kit",
        "kitten.jpg": "a kitten",
        "sunset.jpg": "a sunset",
        "sheep.jpg": "sheep on a meadow",
        "rocket.jpg": "a rocket",
        "dandelion.jpg": "a flower",
        "boats.jpg": "boats on the water",
        "horses.jpg": "horses",
    }
    photos = []
    for name in captions:
        with Image.open(MINI.parent / "samples" / "photos" / name) as image:
            photos.append(image.convert("RGB"))
    cosines = embed(mini, View.TEXT, list(captions.values())) @ embed(mini, View.VISUAL, photos).T
    own = np.eye(len(captions), dtype=np.bool_)
    assert cosines[own].mean() > cosines[~own].mean() + 0.1


def test_the_background_of_mini_is_what_its_spec_holds(mini: OnnxSpace, tmp_path: Path) -> None:
    assert mini.background(View.VISUAL, View.TEXT) == tuple(towers()["background"]["text-visual"])
    fingerprint_with(tmp_path, background={})
    assert OnnxSpace("mini", tmp_path).background(View.TEXT, View.VISUAL) == (0.0, 1 / 16)
