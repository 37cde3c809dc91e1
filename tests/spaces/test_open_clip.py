"""open_clip's models, exported: the same tokens, pixels and vectors as its own, and the same answers from a library."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from support.small_clip import FAMILIES, make_clip

import mmsearch
from mmsearch.errors import ModelError
from mmsearch.spaces import OnnxSpace, embed, load_profile
from mmsearch.spaces.cuda import CudaSpace
from mmsearch.spaces.export import ODD_TEXTS
from mmsearch.spaces.front_ends import Picture
from mmsearch.types import Modality, View

TIE = 1e-3
WORDS = ("red car", "two dogs", "a child", "das Haus", "zelená tráva", "blue sea", "night", "old bicycle", "une pomme")
SIZES = ((1, 1), (30, 500), (500, 31), (64, 64), (65, 64), (63, 64), (224, 224), (77, 999), (255, 257), (640, 480))


class Reference:
    """A model as open_clip itself loads and uses it."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        self.model, _, self.transform = made
        self.model.eval()
        self.tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(self.model.encode_text(self.tokenize(list(texts)), normalize=True).numpy())

    def pictures(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        with torch.inference_mode():
            parts = [
                torch.stack([self.transform(p) for p in pictures[i : i + 25]]) for i in range(0, len(pictures), 25)
            ]
            return np.concatenate([self.model.encode_image(part, normalize=True).numpy() for part in parts])


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


@pytest.fixture(scope="module")
def space(folder: Path) -> OnnxSpace:
    found = load_profile(f"local-dir:{folder}").spaces[0]
    assert isinstance(found, OnnxSpace)
    return found


def random_pictures(sizes: Sequence[tuple[int, int]], seed: int = 0) -> list[Image.Image]:
    """Return pictures of smooth random shapes, (height, width) each, that differ at every scale."""
    random = np.random.default_rng(seed)
    found = []
    for height, width in sizes:
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).resize((width, height))
        fine = random.integers(-20, 21, (height, width, 3))
        found.append(Image.fromarray(np.clip(np.asarray(coarse) + fine, 0, 255).astype(np.uint8)))
    return found


def least_cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.sum(one * other, axis=1).min())


# The same tokens, pixels and vectors


def test_texts_have_the_vectors_of_open_clip(reference: Reference, space: OnnxSpace) -> None:
    texts = [*ODD_TEXTS, *WORDS]
    assert least_cosine(embed(space, View.TEXT, texts), reference.texts(texts)) >= 0.9999


def test_pictures_of_any_shape_have_the_vectors_of_open_clip(reference: Reference, space: OnnxSpace) -> None:
    pictures = random_pictures(SIZES)
    assert least_cosine(embed(space, View.VISUAL, pictures), reference.pictures(pictures)) >= 0.9999


def test_different_inputs_have_different_vectors(space: OnnxSpace) -> None:
    # Else the two above would pass for towers that look at nothing.
    for view, payloads in ((View.TEXT, list(WORDS)), (View.VISUAL, random_pictures(SIZES))):
        vectors = embed(space, view, payloads)
        assert np.median((vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]) < 0.995


def test_tokens_are_open_clips_for_random_texts(reference: Reference, space: OnnxSpace) -> None:
    random = np.random.default_rng(0)
    ranges = ((32, 127), (32, 127), (160, 880), (0x4E00, 0x9FFF), (0x1F300, 0x1F650), (0x600, 0x6FF), (0x2000, 0x2070))
    front_end = space.front_ends[View.TEXT]
    for _ in range(300):
        low, high = ranges[random.integers(len(ranges))]
        text = "".join(chr(c) for c in random.integers(low, high, random.integers(1, 60)) if chr(c).isprintable())
        wanted = reference.tokenize([text])[0].numpy()
        ids = front_end(text)
        np.testing.assert_array_equal(ids, wanted[: len(ids)], err_msg=repr(text))


@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_a_picture_is_brought_to_size_as_open_clip_does(resize: str, interpolation: str, size: tuple[int, int]) -> None:
    transform = open_clip.image_transform(
        size,
        is_train=False,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        resize_mode=resize,
        interpolation=interpolation,
        fill_color=7,
    )
    # For sizes that aren't square, open_clip scales the shorter side bicubically whatever it is told.
    used = "bicubic" if resize == "shortest" and size[0] != size[1] else interpolation
    front_end = Picture(size, resize, used, fill=7)
    for picture in random_pictures(SIZES):
        wanted = (transform(picture).numpy() * 255).round().astype(np.uint8).transpose(1, 2, 0)
        np.testing.assert_array_equal(front_end(picture), wanted, err_msg=str(picture.size))


def test_torch_on_a_device_gives_the_same_space_in_bfloat16(folder: Path, space: OnnxSpace) -> None:
    towers = CudaSpace(f"local-dir:{folder}", space.tower_file(View.TEXT).parent, device="cpu")
    assert (towers.fingerprint, towers.pin, towers.dim) == (space.fingerprint, space.pin, space.dim)
    for view, payloads in ((View.TEXT, list(WORDS)), (View.VISUAL, random_pictures(SIZES))):
        least = 0.9999 if view is View.TEXT else 0.995
        assert least_cosine(embed(towers, view, payloads), embed(space, view, payloads)) >= least
        assert towers.encode(view, []).shape == (0, space.dim)


def test_cuda_that_isnt_there_is_said_at_once(folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ModelError, match="no CUDA device; use --device cpu"):
        load_profile(f"local-dir:{folder}", "cuda")


# The same answers


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    sizes = [(60 + 7 * (n % 20), 60 + 11 * (n % 13)) for n in range(60)]
    for n, picture in enumerate(random_pictures(sizes, seed=1)):
        picture.save(made / f"{n:03d}.png")
    return made


def assert_same_answers(
    library: mmsearch.Library, reference: Reference, photos: Path, texts: Sequence[str], asking: Sequence[Path]
) -> None:
    """Compare the ten best of a library with a plain search over open_clip's own vectors, ties aside."""
    files = sorted(photos.iterdir())
    items = reference.pictures([Image.open(file) for file in files])
    queries: list[tuple[str | Path, NDArray[np.float32]]] = [
        *zip(texts, reference.texts(texts), strict=True),
        *((file, items[files.index(file)]) for file in asking),
    ]
    for query, vector in queries:
        scores = dict(zip(files, (items @ vector).tolist(), strict=True))
        best = sorted(scores, key=lambda file: -scores[file])[:10]
        found = [hit.path for hit in library.query(query, k=10, modalities={Modality.IMAGE}, rerank=False)]
        assert len(set(found)) == 10
        for hit, wanted in zip(found, best, strict=True):
            assert hit == wanted or abs(scores[hit] - scores[wanted]) <= TIE, (query, hit.name, wanted.name)


def test_a_librarys_answers_are_those_of_a_plain_search(
    folder: Path, reference: Reference, photos: Path, tmp_path: Path
) -> None:
    with mmsearch.open(tmp_path / "library", model=f"local-dir:{folder}") as library:
        report = library.index(photos)
        assert (report.added, report.failed) == (60, 0)
        assert_same_answers(library, reference, photos, WORDS, sorted(photos.iterdir())[::6])
        (hit,) = library.query("red car", k=1)
        assert hit.space == f"local-dir:{folder}"


def test_a_cold_query_of_an_exported_model_loads_neither_torch_nor_what_reads_media(
    folder: Path, photos: Path, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    with mmsearch.open(library, model=f"local-dir:{folder}") as opened:
        assert opened.index(photos / "000.png").added == 1
    code = f"import sys, mmsearch; hits = mmsearch.open({str(library)!r}).query('red car'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "open_clip", "transformers", "av", "soundfile", "ftfy", "indexer"} & set(loaded)
