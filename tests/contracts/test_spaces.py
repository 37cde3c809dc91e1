"""What every joint embedding space promises."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.adapted_maker import make_adapted
from support.payloads import picture, tone

from mmsearch.spaces import ImageFrontEnd, Space, TextFrontEnd, embed, load_profile
from mmsearch.types import View

if TYPE_CHECKING:
    from mmsearch.types import Payload


TEXTS = (
    "red",
    "a dog runs through the deep snow beside two children in blue coats",
    "",
    "two boats",
    "a very " + "long " * 20 + "sentence about the blue sea",
)
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
