"""What several test modules share: the repository, the samples, and the command line as a process."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

pytest.register_assert_rewrite("support")  # what the makers assert fails with its values, as in a test module
pytest_plugins = ["support.web_library"]
REPOSITORY = Path(__file__).parents[1]

# Set before anything reads them: no test looks for a model on a network, and none finds one that the user has.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MMSEARCH_CACHE"] = CACHE = tempfile.mkdtemp(prefix="mmsearch-cache-")
os.environ["HF_HOME"] = f"{CACHE}/hub"
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)


class Run(Protocol):
    def __call__(
        self, *arguments: str | Path, library: Path | None = None, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what the command line does to logging in the process of the tests."""
    root, loggers = logging.getLogger(), [logging.getLogger(name) for name in ("mmsearch", "indexer")]
    root_level, before = root.level, [(list(each.handlers), each.level, each.propagate) for each in loggers]
    yield
    root.setLevel(root_level)
    for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
        each.handlers, each.propagate = handlers, propagate
        each.setLevel(level)


@pytest.fixture(scope="session")
def samples() -> Path:
    return REPOSITORY / "data" / "samples"


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run `mmsearch` as a user does: a process of its own, with no library and no home but the test's."""
    home = tmp_path_factory.mktemp("home")

    def call(
        *arguments: str | Path, library: Path | None = None, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MMSEARCH_") and k != "XDG_DATA_HOME"}
        named = {"MMSEARCH_LIBRARY": str(library)} if library is not None else {}
        return subprocess.run(
            [sys.executable, "-m", "mmsearch", *map(str, arguments)],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            cwd=cwd or home,
            env={**kept, "HOME": str(home), "COLUMNS": "120", "MMSEARCH_CACHE": CACHE, **named, **environment},
            timeout=120,
            check=False,
        )

    return call


def children(parent: int | None = None) -> list[int]:
    """Return the living processes that a process has started, this one by default."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                state, owner = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(owner) == (parent or os.getpid()) and state != "Z":
                found.append(int(folder.name))
    return found
