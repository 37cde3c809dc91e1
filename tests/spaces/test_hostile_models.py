"""A model folder from elsewhere ends in one line: no crash, no hang, no memory, no network, whatever lies in it.

The makers are in support/hostile_models.py.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from support.hostile_models import SLOW, hostile_models
from support.small_space import DIM, make_heads, make_space

from mmsearch.errors import ModelError
from mmsearch.spaces import embed, load_profile
from mmsearch.types import View

MODELS = dict(hostile_models())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network is asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_profile(f"local-dir:{folder}")
    return str(caught.value)


def test_the_models_that_are_spoilt_here_are_good_before_that(tmp_path: Path) -> None:
    space = load_profile(f"local-dir:{make_space(tmp_path / 'space')}").spaces[0]
    assert embed(space, View.TEXT, ["red car", "car"]).shape == (2, DIM)
    heads = load_profile(f"local-dir:{make_heads(tmp_path / 'heads')}").spaces[0]
    assert embed(heads, View.TEXT, ["red"]).shape == (1, 64)


def test_there_are_enough_of_them() -> None:
    assert len(MODELS) >= 80


@pytest.mark.parametrize("name", [name for name in MODELS if name not in SLOW])
def test_a_hostile_model_is_refused_in_one_line(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "model"
    MODELS[name](folder)
    line = refusal(folder)
    assert "\n" not in line
    assert len(line) < 500 + len(str(folder))
    assert capfd.readouterr() == ("", "")  # nor do the libraries say anything
