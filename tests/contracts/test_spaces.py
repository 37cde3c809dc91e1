"""What every joint embedding space promises, and what the embedded one computes."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest
from conftest import REPOSITORY
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from support.adapted_maker import make_adapted
from tokenizers import Tokenizer

from mmsearch.errors import ModelError
from mmsearch.spaces import ImageFrontEnd, Space, TextFrontEnd, embed, known_models, load_profile, resolve_name
from mmsearch.spaces.models import ALIASES
from mmsearch.spaces.onnx import OnnxSpace
from mmsearch.spaces.sources import architectures
from mmsearch.types import View

if TYPE_CHECKING:
    from mmsearch.types import Payload

MINI = REPOSITORY / "data" / "mini"
TEXTS = (
    "red",
    "a dog runs through the deep snow beside two children in blue coats",
    "",
    "two boats",
    "a very " + "long " * 20 + "sentence about the blue sea",
)


def picture(colour: str, size: tuple[int, int] = (200, 90)) -> Image.Image:
    image = Image.new("RGB", size, colour)
    ImageDraw.Draw(image).ellipse((10, 10, size[0] // 2, size[1] // 2), fill="white")
    return image


def tone(pitch_hz: float, seconds: float) -> NDArray[np.float32]:
    at = np.arange(int(16_000 * seconds)) / 16_000
    return (0.5 * np.sin(2 * np.pi * pitch_hz * at)).astype(np.float32)


PAYLOADS: dict[View, tuple[Payload, ...]] = {
    View.TEXT: TEXTS,
    View.VISUAL: (picture("red"), picture("blue", (64, 300)), picture("green", (128, 128)), picture("black", (20, 20))),
    View.AUDIO: (tone(100, 2.0), tone(1000, 0.25), tone(440, 1.0), tone(5000, 3.5), tone(700, 1.0)),
}


@pytest.fixture(scope="module", params=["mini", "hashing", "adapted"])
def space(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Space:
    adapted = request.param == "adapted"
    name = make_adapted(tmp_path_factory.mktemp("adapted")) if adapted else request.param
    return load_profile(name).spaces[0]


@pytest.fixture(scope="module")
def mini() -> OnnxSpace:
    space = load_profile("mini").spaces[0]
    assert isinstance(space, OnnxSpace)
    return space


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MINI, tmp_path / "mini"))


# What every space promises


def test_a_space_has_a_tower_for_every_view(space: Space) -> None:
    assert set(space.front_ends) == set(View)
    assert isinstance(space.front_ends[View.TEXT], TextFrontEnd)
    assert isinstance(space.front_ends[View.VISUAL], ImageFrontEnd)


@pytest.mark.parametrize("view", View)
def test_vectors_are_float32_of_the_spaces_dimension_and_of_unit_length(space: Space, view: View) -> None:
    vectors = embed(space, view, PAYLOADS[view])
    assert vectors.shape == (len(PAYLOADS[view]), space.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("view", View)
def test_vectors_come_in_input_order_and_dont_depend_on_what_else_is_in_the_batch(space: Space, view: View) -> None:
    payloads = PAYLOADS[view] * 15  # more than one run of any tower takes, and of mixed lengths
    together = embed(space, view, payloads)
    alone = np.concatenate([embed(space, view, [payload]) for payload in PAYLOADS[view]] * 15)
    assert np.sum(together * alone, axis=1).min() >= 0.9999
    backwards = embed(space, view, payloads[::-1])
    assert np.sum(together * backwards[::-1], axis=1).min() >= 0.9999


@pytest.mark.parametrize("view", View)
def test_different_payloads_have_different_vectors(space: Space, view: View) -> None:
    few = {View.TEXT: TEXTS[:2], View.VISUAL: PAYLOADS[view][:2], View.AUDIO: (tone(100, 1.0), tone(5000, 1.0))}[view]
    one, other = embed(space, view, few)
    assert one @ other < 0.99


@pytest.mark.parametrize("view", View)
def test_no_inputs_give_no_rows(space: Space, view: View) -> None:
    vectors = space.encode(view, [])
    assert vectors.shape == (0, space.dim)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("view", View)
def test_the_same_payload_has_the_same_vector_in_another_instance(space: Space, view: View) -> None:
    again = load_profile(space.name).spaces[0]
    assert again is not space
    assert again.fingerprint == space.fingerprint
    np.testing.assert_array_equal(embed(again, view, PAYLOADS[view]), embed(space, view, PAYLOADS[view]))


@pytest.mark.parametrize("view", View)
def test_a_front_end_gives_small_arrays_and_works_the_same_in_another_process(space: Space, view: View) -> None:
    copied = pickle.loads(pickle.dumps(space.front_ends[view]))
    for payload in PAYLOADS[view]:
        prepared = space.front_ends[view](payload)
        assert isinstance(prepared, np.ndarray)
        assert prepared.nbytes < 1_000_000
        np.testing.assert_array_equal(copied(payload), prepared)


def test_a_text_of_any_length_has_a_vector(space: Space) -> None:
    vectors = embed(space, View.TEXT, ["red " * 10_000, "x" * 50_000, "\n\t ", "🦔" * 500])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_text_with_bytes_that_are_no_text_has_a_vector(space: Space) -> None:
    # What a shell passes on for a name that isn't UTF-8.
    vectors = embed(space, View.TEXT, ["caf\udce9 au lait"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_sound_shorter_than_a_second_has_a_vector_even_of_one_sample_or_none(space: Space) -> None:
    waves = [np.zeros(0, np.float32), np.zeros(1, np.float32), tone(440, 0.01)]
    np.testing.assert_allclose(np.linalg.norm(embed(space, View.AUDIO, waves), axis=1), 1, atol=1e-5)


def test_a_picture_of_another_mode_is_taken_as_its_colours(space: Space) -> None:
    rgb = picture("red")
    assert embed(space, View.VISUAL, [rgb])[0] @ embed(space, View.VISUAL, [rgb.convert("RGBA")])[0] >= 0.9999


def test_the_text_front_end_counts_the_tokens_that_passages_are_cut_by(space: Space) -> None:
    front_end = space.front_ends[View.TEXT]
    assert isinstance(front_end, TextFrontEnd)
    assert front_end.max_tokens >= 16
    assert front_end.count_tokens("") == 0
    assert front_end.count_tokens("red") == 1
    assert front_end.count_tokens("red car red car") == 2 * front_end.count_tokens("red car") == 4


def test_the_background_is_the_same_either_way_and_never_without_spread(space: Space) -> None:
    for one in View:
        for other in View:
            mean, std = space.background(one, other)
            assert (mean, std) == space.background(other, one)
            assert -1 < mean < 1
            assert std > 0


def test_the_word_red_is_nearest_to_the_red_picture_in_hashing() -> None:
    space = load_profile("hashing").spaces[0]
    colours = ["red", "green", "blue", "yellow"]
    words = embed(space, View.TEXT, colours)
    pictures = embed(space, View.VISUAL, [Image.new("RGB", (40, 40), colour) for colour in colours])
    assert (words @ pictures.T).argmax(axis=1).tolist() == [0, 1, 2, 3]


# Profiles


def test_auto_is_the_embedded_space() -> None:
    assert resolve_name("auto") == "mini"
    assert known_models()[0].name == "mini"


def test_an_unknown_model_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"'minni'.*mini.*hashing"):
        load_profile("minni")


def test_what_the_model_list_says_is_what_the_spaces_are() -> None:
    for info in known_models():
        if info.name in ("mini", "hashing"):
            space = load_profile(info.name).spaces[0]
            assert (info.dim, set(info.views)) == (space.dim, set(space.front_ends))
        elif info.name != "clap":  # the dimension of open_clip's own configuration
            architecture = ALIASES[info.name].partition("/")[0]
            assert info.dim == json.loads(architectures()[architecture].read_text())["embed_dim"]
    assert known_models()[0].megabytes == pytest.approx(sum(f.stat().st_size for f in MINI.iterdir()) / 1e6, abs=0.1)


def test_a_pair_of_views_is_answered_by_the_first_space_that_covers_both() -> None:
    profile = load_profile("hashing")
    assert profile.space_for(View.TEXT, View.VISUAL) is profile.spaces[0]
    assert profile.key == f"hashing:{profile.spaces[0].fingerprint}"


# mini, against the words of its own spec


def towers() -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((MINI / "spec.json").read_bytes())
    return spec


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


# A space folder


def test_the_embedded_space_has_the_digests_of_its_spec() -> None:
    for name, digest in towers()["files"].items():
        assert hashlib.sha256((MINI / name).read_bytes()).hexdigest() == digest
    weights = {file.name for file in MINI.iterdir() if file.suffix != ".md"} - {"spec.json"}
    assert set(towers()["files"]) == weights


@pytest.mark.parametrize("spec", [None, "", "{", "[]", "5", '{"dim": 4, "image": {}}', '{"name": "x"}'])
def test_a_folder_without_a_spec_is_a_model_error_of_one_line(tmp_path: Path, spec: str | None) -> None:
    if spec is not None:
        (tmp_path / "spec.json").write_text(spec)
    with pytest.raises(ModelError, match="is not a space folder") as caught:
        OnnxSpace("x", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_tower_is_a_model_error_of_one_line(folder: Path) -> None:
    (folder / "text.onnx").write_bytes(b"this is no tower")
    with pytest.raises(ModelError, match=r"text\.onnx can't be loaded") as caught:
        embed(OnnxSpace("mini", folder), View.TEXT, ["red"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"{}", b"\xff\x00"])
def test_a_missing_or_damaged_tokenizer_is_a_model_error_that_names_it(folder: Path, content: bytes | None) -> None:
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        embed(OnnxSpace("mini", folder), View.TEXT, ["red"])


def test_a_view_that_a_space_has_no_tower_for_is_a_model_error(folder: Path) -> None:
    spec = towers()
    del spec["audio"]
    (folder / "spec.json").write_text(json.dumps(spec))
    space = OnnxSpace("deaf", folder)
    assert set(space.front_ends) == {View.TEXT, View.VISUAL}
    with pytest.raises(ModelError, match="deaf has no tower for the audio view"):
        space.encode(View.AUDIO, [np.zeros(16_000, np.float32)])
    with pytest.raises(ModelError, match="deaf has no tower for the audio view"):
        embed(space, View.AUDIO, [np.zeros(16_000, np.float32)])


def fingerprint_with(folder: Path, **changes: object) -> str:
    (folder / "spec.json").write_text(json.dumps({**towers(), **changes}))
    return OnnxSpace("mini", folder).fingerprint


def test_the_fingerprint_changes_with_weights_and_preprocessing_and_with_nothing_else(tmp_path: Path) -> None:
    spec = towers()
    same = fingerprint_with(tmp_path)
    assert same == load_profile("mini").spaces[0].fingerprint
    assert fingerprint_with(tmp_path, background={}, licence="MIT", training_data=[]) == same
    assert fingerprint_with(tmp_path, files={**spec["files"], "text.onnx": "0" * 64}) != same
    assert fingerprint_with(tmp_path, image={**spec["image"], "mean": [0, 0, 0]}) != same
    assert fingerprint_with(tmp_path, dim=128) != same


def test_the_background_of_mini_is_what_its_spec_holds(mini: OnnxSpace, tmp_path: Path) -> None:
    assert mini.background(View.VISUAL, View.TEXT) == tuple(towers()["background"]["text-visual"])
    fingerprint_with(tmp_path, background={})
    assert OnnxSpace("mini", tmp_path).background(View.TEXT, View.VISUAL) == (0.0, 1 / 16)
