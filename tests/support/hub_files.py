"""A hub of two small repositories, a home for its cache, and the line that a fetch is refused with."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from mmsearch.errors import ModelError
from mmsearch.spaces import hub
from support.fake_hub import FakeHub

CLIP = "acme/clip-b32"
CONFIG, SAFE, PICKLED, TOKENS = (
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "tokenizer.json",
)
WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
FILES = {CONFIG: b'{"dim": 512}', SAFE: WEIGHTS, PICKLED: WEIGHTS[::-1], TOKENS: b'{"version": "1.0"}'}


@pytest.fixture
def server() -> Iterator[FakeHub]:
    with FakeHub({CLIP: FILES, "acme/old": {PICKLED: WEIGHTS}}) as server:
        yield server


@pytest.fixture(autouse=True)
def home(server: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cache's home; this process uses the server, waits for nothing between tries, and knows no token."""
    home = tmp_path / "hf"
    for name in os.environ:
        if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_")):
            monkeypatch.delenv(name)
    for name, value in server.environment(home).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # what the library read when it was imported
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(home / "harnesses.json"), raising=False)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    yield home
    huggingface_hub.close_session()


def refusal(repository: str = CLIP, *names: str) -> str:
    """Return the one line that a fetch fails with."""
    with pytest.raises(ModelError) as caught:
        hub.fetch(repository, names or [SAFE])
    assert "\n" not in str(caught.value)
    return str(caught.value)
