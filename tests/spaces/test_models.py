"""Which models there are: the names that stand for them, what is listed of them, and which of their spaces answers."""

from __future__ import annotations

import json

import pytest
from support.payloads import MINI

from mmsearch.errors import ModelError
from mmsearch.spaces import known_models, load_profile, resolve_name
from mmsearch.spaces.models import ALIASES
from mmsearch.spaces.sources import architectures
from mmsearch.types import View


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
