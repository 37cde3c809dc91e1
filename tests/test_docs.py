"""What README and docs/ show works as it stands there, and what they list is complete."""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted(page.relative_to(REPOSITORY).as_posix() for page in DOCS.rglob("*.md"))
README = (REPOSITORY / "README.md").read_text("utf-8")


def blocks(page: str, language: str) -> list[str]:
    """Return the contents of a page's blocks of code in a language."""
    text = (REPOSITORY / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    return [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]


def run_all(lines: Sequence[str], folder: Path, library: Path) -> None:
    """Run commands as a reader types them; each succeeds and prints something."""
    environment = {
        **os.environ,
        "MMSEARCH_LIBRARY": str(library),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for line in lines:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout, line


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that the commands run in; what they write stays out of the repository."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "data").symlink_to(REPOSITORY / "data")
    return folder


@pytest.fixture(scope="module")
def indexed(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run what the README shows, in order, and return the library that it makes."""
    library = tmp_path_factory.mktemp("libraries") / "library"
    lines = commands("README.md")
    assert len(lines) == 5
    run_all(lines, clone, library)
    return library


def test_every_command_of_the_readme_succeeds_in_order(indexed: Path) -> None:
    assert (indexed / "catalog.sqlite").is_file()


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_every_command_of_a_page_succeeds_once_the_samples_are_indexed(
    page: str, clone: Path, indexed: Path, tmp_path: Path
) -> None:
    run_all(commands(page), clone, shutil.copytree(indexed, tmp_path / "library"))


def test_the_python_of_the_readme_runs_as_a_script(tmp_path: Path, samples: Path) -> None:
    (code,) = blocks("README.md", "python")
    shutil.copytree(samples / "photos", tmp_path / "photos")
    (tmp_path / "example.py").write_text(code + "\nassert vectors.shape == (2, 256)\nassert len(like_this) == 4\n")
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "42 added, 0 failed"
    assert "orchestra.jpg" in done.stdout.splitlines()[1]


def test_the_readme_is_a_screen_or_two() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *PAGES])
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (REPOSITORY / page).read_text("utf-8")):
        there = (REPOSITORY / page).parent / link
        assert link.startswith("https://") or there.exists(), link
        inside = page.startswith("docs/") and not link.startswith("https://")
        assert not inside or there.resolve().is_relative_to(DOCS), f"{link} isn't part of the site"


def test_the_site_has_every_page() -> None:
    listed = re.findall(r"^ +- (\S+\.md)$", (REPOSITORY / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(f"docs/{page}" for page in listed) == PAGES


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """Return the script that writes the reference, as a module."""
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["cli", "python"])
def test_the_reference_is_what_the_program_says_of_itself(page: str, reference: ModuleType) -> None:
    written = (DOCS / "reference" / f"{page}.md").read_text("utf-8")
    assert written == getattr(reference, f"{page}_page")(), "run: python docs/make_reference.py"


def test_every_command_is_shown_outside_of_the_reference(reference: ModuleType) -> None:
    from mmsearch.cli.app import app

    shown = README + "".join((REPOSITORY / page).read_text("utf-8") for page in PAGES if "/reference/" not in page)
    for words in reference.commands(app):
        assert f"mmsearch {' '.join(words)}" in shown


def test_every_environment_variable_that_is_read_is_documented() -> None:
    read = set[str]()
    for package in ("mmsearch", "indexer"):
        for file in (REPOSITORY / package).rglob("*.py"):
            read |= set(re.findall(r"environ(?:\.get\(|\[)\"([A-Z0-9_]+)\"", file.read_text("utf-8")))
    documented = (DOCS / "environment.md").read_text("utf-8")
    assert len(read) > 8
    assert {name for name in read if f"`{name}`" not in documented} == {"ORT_DISABLE_TELEMETRY"}  # which is only set


def test_the_worked_example_of_ranking_is_true() -> None:
    failed, tried = doctest.testfile(str(DOCS / "ranking.md"), module_relative=False)
    assert failed == 0
    assert tried > 10
