"""The wheel carries everything it needs, and nothing of the samples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(REPOSITORY)], check=True, capture_output=True, timeout=180)
    (file,) = folder.glob("mmsearch-*.whl")
    return file


def test_the_wheel_holds_the_packages_and_the_embedded_space_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mmsearch", "indexer"}
    assert {name for name in names if "/data/" in name} == {
        f"mmsearch/data/mini/{file}"
        for file in ("MODEL_CARD.md", "audio.onnx", "image.onnx", "spec.json", "text.onnx", "tokenizer.json")
    }
    assert {"mmsearch/py.typed", "mmsearch/search/scoring/bank.txt"} <= set(names)
    page = {f"mmsearch/web/static/{file.name}" for file in (REPOSITORY / "mmsearch/web/static").iterdir()}
    assert {"mmsearch/web/static/main.js", "mmsearch/web/static/style.css"} <= page <= set(names)
    assert wheel.stat().st_size < 40 * 2**20


def test_the_installed_wheel_answers_a_query_outside_the_checkout(wheel: Path, tmp_path: Path, samples: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    environment = {**os.environ, "PYTHONPATH": str(site), "MMSEARCH_LIBRARY": str(tmp_path / "library")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("-c", "import mmsearch, indexer; print(mmsearch.__file__, indexer.__file__)").count(str(site)) == 2
    run("-m", "mmsearch", "index", str(samples / "photos"))
    hits = run("-m", "mmsearch", "query", "musicians at a concert", "-k", "1", "--json").splitlines()
    assert json.loads(hits[0])["path"] == str(samples / "photos" / "orchestra.jpg")
