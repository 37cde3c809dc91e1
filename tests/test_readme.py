"""What the README shows works as it stands there."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_every_command_of_the_readme_succeeds_in_order(tmp_path: Path) -> None:
    commands = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 10
    (tmp_path / "data").symlink_to(REPOSITORY / "data")  # what the commands write stays out of the repository
    environment = {
        **os.environ,
        "MMSEARCH_LIBRARY": str(tmp_path / "library"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for command in commands:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout, command


def test_the_python_of_the_readme_runs_as_a_script(tmp_path: Path, samples: Path) -> None:
    (code,) = blocks("python")
    shutil.copytree(samples / "photos", tmp_path / "photos")
    (tmp_path / "example.py").write_text(code + "\nassert vectors.shape == (2, 256)\nassert len(like_this) == 4\n")
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "42 added, 0 failed"
    assert "orchestra.jpg" in done.stdout.splitlines()[1]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", (REPOSITORY / page).read_text("utf-8")):
        assert link.startswith("https://") or (REPOSITORY / link).exists(), link


def test_every_command_is_documented(tmp_path: Path) -> None:
    for command in ("index", "query", "eval", "train", "adapt", "status", "forget"):
        assert f"mmsearch {command}" in README


def test_the_worked_example_of_ranking_is_true() -> None:
    failed, tried = doctest.testfile(str(REPOSITORY / "docs" / "ranking.md"), module_relative=False)
    assert failed == 0
    assert tried > 10
