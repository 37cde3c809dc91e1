"""Profiles of several spaces: which one is asked, at which rate they hear, and where their models come from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Run
from numpy.typing import NDArray
from support.fake_hub import FakeHub, Fault
from support.small_clap import RATE_HZ, make_clap, sample_sounds
from support.small_clip import make_clip

import mmsearch
from mmsearch.spaces import SoundFrontEnd, embed, load_profile
from mmsearch.spaces.models import STANDARD_REPOSITORY
from mmsearch.types import Modality, View

TIE = 1e-3
WORDS = ("a dog barks", "rain falls", "a violin", "birds sing in the wind", "ein Motor", "3 bells")


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


# Several spaces


def test_each_pair_of_views_is_answered_by_the_first_space_that_covers_it(clip: Path) -> None:
    profile = load_profile(f"local-dir:{clip}")
    main, mini = profile.spaces
    assert (main.name, mini.name) == (f"local-dir:{clip}", "mini")
    for one in View:
        for other in View:
            expected = mini if View.AUDIO in (one, other) else main
            assert profile.space_for(one, other) is expected


def test_a_profile_is_made_again_from_its_pins(clip: Path) -> None:
    profile = load_profile(f"local-dir:{clip}")
    assert load_profile(profile.name, pins=profile.pins).key == profile.key


def test_spaces_that_want_different_rates_hear_the_same_sound(clap: Path) -> None:
    profile = load_profile(f"local-dir:{clap}")
    mini = profile.spaces[1]
    rates = []
    for space in profile.spaces:
        end = space.front_ends[View.AUDIO]
        assert isinstance(end, SoundFrontEnd)
        rates.append(end.sample_rate_hz)
    assert rates == [RATE_HZ, RATE_HZ]
    wave = (0.4 * np.sin(2 * np.pi * 700 * np.arange(3 * RATE_HZ) / RATE_HZ)).astype(np.float32)
    alone = load_profile("mini").spaces[0]
    ours, wanted = embed(mini, View.AUDIO, [wave]), embed(alone, View.AUDIO, [wave[::3].copy()])
    assert float(ours[0] @ wanted[0]) >= 0.99


def test_a_library_of_clap_answers_as_a_plain_search_over_transformers_own_vectors(clap: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

    sounds = tmp_path / "sounds"
    sounds.mkdir()
    random = np.random.default_rng(3)
    made = [*sample_sounds(), *(_sound(random) for _ in range(24))]
    made = [wave for wave in made if len(wave) >= RATE_HZ // 2 and np.abs(wave).max() > 0.01]
    for n, wave in enumerate(made):
        soundfile.write(sounds / f"{n:02d}.wav", wave[: 10 * RATE_HZ], RATE_HZ, subtype="FLOAT")
    files = sorted(sounds.iterdir())
    loader: Any = ClapModel
    model = loader.from_pretrained(clap).eval()
    extractor, tokenizer = ClapFeatureExtractor.from_pretrained(clap), AutoTokenizer.from_pretrained(clap)
    heard = [soundfile.read(file, dtype="float32")[0] for file in files]
    mel = extractor(heard, sampling_rate=RATE_HZ, return_tensors="pt")
    items = _unit(model.get_audio_features(**mel))
    ids = tokenizer(list(WORDS), padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    texts = _unit(model.get_text_features(**ids))
    with mmsearch.open(tmp_path / "library", model=f"local-dir:{clap}") as library:
        assert library.index(sounds).failed == 0
        asked: list[tuple[str | Path, NDArray[np.float32]]] = [
            *zip(WORDS, texts, strict=True),
            *zip(files[::3], items[::3], strict=True),
        ]
        for query, vector in asked:
            scores = dict(zip(files, (items @ vector).tolist(), strict=True))
            best = sorted(scores, key=lambda file: -scores[file])[:10]
            hits = library.query(query, k=10, modalities={Modality.AUDIO}, rerank=False)
            assert {hit.space for hit in hits} == {f"local-dir:{clap}"}
            for hit, wanted in zip(hits, best, strict=True):
                assert hit.path == wanted or abs(scores[hit.path] - scores[wanted]) <= TIE, (query, hit.path)


def _sound(random: np.random.Generator) -> NDArray[np.float32]:
    """Return some seconds of tones and noise."""
    at = np.arange(int(RATE_HZ * random.uniform(1, 9))) / RATE_HZ
    tones = sum(np.sin(2 * np.pi * pitch * at) for pitch in random.uniform(60, 9_000, 3))
    noise = random.standard_normal(len(at)) * random.uniform(0, 0.5)
    return np.asarray(0.15 * (tones + noise) * np.exp(-at * random.uniform(0, 2)), np.float32)


def _unit(features: Any) -> NDArray[np.float32]:  # noqa: ANN401  a tensor, or in newer versions an output that has one
    rows = getattr(features, "pooler_output", features).detach().numpy()
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


# Where models come from


def repository(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_a_model_of_the_hub_is_pulled_once_and_needs_no_network_then(clip: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("a red car")
    home = {"MMSEARCH_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    with FakeHub({"me/small": repository(clip)}) as hub:
        online = {**home, **hub.environment(tmp_path / "hub")}
        pulled = run("model", "pull", "hf-hub:me/small", library=None, cwd=tmp_path, **online)
        assert pulled.returncode == 0, pulled.stderr
        assert "hf-hub:me/small is ready" in pulled.stdout
        assert "mini is ready" in pulled.stdout
        fetched = {asked.path.rpartition("/")[2] for asked in hub.requests if asked.method == "GET"}
        assert {"open_clip_config.json", "open_clip_model.safetensors"} <= fetched
        hub.requests.clear()
        done = run(
            "index", tmp_path / "note.txt", "--model", "hf-hub:me/small", library=tmp_path / "l", cwd=tmp_path, **online
        )
        assert done.returncode == 0, done.stderr
        assert hub.requests == []
    asked = run("query", "red car", "--json", library=tmp_path / "l", cwd=tmp_path, **{**online, "HF_HUB_OFFLINE": "1"})
    assert json.loads(asked.stdout)["space"] == "hf-hub:me/small"


def test_a_model_that_isnt_there_makes_no_library(run: Run, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("a red car")
    with FakeHub({}) as hub:
        online = {"HF_HUB_OFFLINE": "0", **hub.environment(tmp_path / "hub")}
        done = run(
            "index", tmp_path / "note.txt", "--model", "hf-hub:me/none", library=tmp_path / "l", cwd=tmp_path, **online
        )
    assert done.returncode == 2
    assert "the hub has no model me/none" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "l").exists()


def auto(environment: dict[str, str]) -> tuple[str, str]:
    """Return what `auto` stands for in a process of its own, and what it says about it."""
    code = (
        "import logging; logging.basicConfig(level=logging.INFO, format='%(message)s');"
        "from mmsearch.spaces import resolve_name; print(resolve_name('auto'))"
    )
    kept = {name: value for name, value in os.environ.items() if name not in environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**kept, **environment})
    return done.stdout.strip(), done.stderr.strip()


def test_auto_is_standard_where_the_hub_answers_and_mini_elsewhere(clip: Path, tmp_path: Path) -> None:
    with FakeHub({STANDARD_REPOSITORY: {}}) as hub:
        online = {"HF_HUB_OFFLINE": "0", **hub.environment(tmp_path / "hub")}
        chosen, said = auto(online)
        assert chosen == "standard"
        assert "605 MB" in said
        assert "--model mini does without" in said
        hub.misbehave(Fault(hang=True))
        chosen, said = auto(online)
        assert chosen == "mini"
        assert "mmsearch index PATH --model standard" in said
        hub.behave()
        hub.misbehave(Fault(status=404))
        assert auto(online)[0] == "mini"
    assert auto({**online, "HF_HUB_OFFLINE": "1"})[0] == "mini"


def test_auto_is_standard_where_its_weights_are_on_this_disk(tmp_path: Path) -> None:
    commit = "0" * 40
    place = tmp_path / "hub" / f"models--{STANDARD_REPOSITORY.replace('/', '--')}"
    (place / "snapshots" / commit).mkdir(parents=True)
    (place / "snapshots" / commit / "open_clip_model.safetensors").write_bytes(b"weights")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    assert auto({"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}) == ("standard", "")
