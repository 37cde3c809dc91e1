"""Tries a model folder in a separate process before it is used in this one.

An ONNX file or a tokenizer from elsewhere may compute for ever, exhaust the memory, or crash the process. The trial
checks the structure of each tower, loads it, and encodes two small inputs of each view. Limits on memory and time
follow from the size of the files; on systems without POSIX limits, only the time is limited.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.errors import MMSearchError, ModelError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmsearch.types import Payload, View

BASE_BYTES = 704 * 2**20
"""Memory limit of a trial without its model: the interpreter, onnxruntime and a tokenizer take about 200 MB."""
TIMES_SIZE = 3
"""Additional memory for each byte of the model: weights are repacked when they are loaded."""
CPU_S = 4.0
CPU_S_PER_GIB = 60.0
_WALL_FACTOR = 2.5
"""The time limit as a multiple of the CPU time: the machine may be busy."""
_TEXTS = ("a red car", "Příliš žluťoučký kůň úpěl ďábelské ódy, 1984: it's 红色 🦔! " * 8)


def try_folder(folder: Path, wall_s: float | None = None) -> set[str]:
    """Try a space folder of ONNX towers; return the names of the towers' external files of weights.

    Raises `ModelError`, with the reason in one line, if it can't be used.
    """
    code = "import sys; sys.path.append(sys.argv[1]); from mmsearch.spaces.trial import main; main(sys.argv[2])"
    package = str(Path(__file__).parents[2])
    limit_s = wall_s or _WALL_FACTOR * (CPU_S + CPU_S_PER_GIB * _size(folder, os.listdir(folder)) / 2**30)  # noqa: PTH208
    try:
        done = subprocess.run(
            # -P: modules in the working directory must not be imported
            [sys.executable, "-P", "-c", code, package, str(folder)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            check=False,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "0"},
        )
    except subprocess.TimeoutExpired:
        raise _refused(folder, "it takes too long") from None
    try:
        verdict = json.loads(done.stdout.splitlines()[-1])
        files, fault = verdict["files"], str(verdict["fault"])
    except (IndexError, ValueError, KeyError, TypeError):
        slow = hasattr(signal, "SIGXCPU") and done.returncode == -signal.SIGXCPU
        raise _refused(folder, "it takes too long" if slow else "it fails, or takes too much memory") from None
    if fault:
        raise ModelError(fault) if verdict.get("whole") else _refused(folder, fault)
    return {str(name) for name in files}


def _refused(folder: Path, reason: str) -> ModelError:
    return ModelError(f"the model in {folder} can't be used ({reason}); use another model")


def _size(folder: Path, names: Iterable[str]) -> int:
    """Return the size of files on disk in bytes; the holes of sparse files don't count."""
    total = 0
    for name in names:
        status = os.lstat(folder / name)
        total += min(status.st_size, getattr(status, "st_blocks", 2**53) * 512)
    return total


def main(folder: str) -> None:
    """Try a folder within limits, and print the verdict as one line of JSON. This runs in the separate process."""
    verdict: dict[str, object] = {"files": [], "fault": "", "whole": False}
    try:
        verdict["files"] = sorted(_examine(Path(folder)))
    except MemoryError:
        verdict["fault"] = "it takes too much memory"
    except MMSearchError as error:  # with its remedy
        verdict.update(fault=one_line(error, 500), whole=True)
    except OSError as error:
        verdict["fault"] = f"{Path(error.filename or folder).name}: {one_line(error.strerror or error)}"
    except Exception as error:  # any error means that the model can't be used
        verdict["fault"] = one_line(error) or type(error).__name__
    sys.stdout.write(f"\n{json.dumps(verdict)}\n")
    sys.stdout.flush()
    os._exit(0)


def _examine(folder: Path) -> set[str]:
    from mmsearch.spaces.graph import external_files
    from mmsearch.spaces.onnx import OnnxSpace
    from mmsearch.spaces.spec import is_file_name, read_spec

    spec = read_spec(folder)
    _limit(_size(folder, spec.files))
    beside: set[str] = set()
    for tower in set(spec.towers.values()):
        try:
            files = external_files(folder / tower)
        except ValueError as error:
            raise ModelError(f"{folder / tower} can't be used ({error}); use another model") from None
        if (odd := next((name for name in files if not is_file_name(name)), None)) is not None:
            reason = f"its weights lie outside of its folder: {odd[:80]!r}"
            raise ModelError(f"{folder / tower} can't be used ({reason}); use another model")
        beside |= files
    if odd := next((name for name in beside if (folder / name).is_symlink() or not (folder / name).is_file()), None):
        raise ModelError(f"{folder / odd} is no regular file, but holds the weights of a tower; copy the model again")
    _limit(_size(folder, {*spec.files, *beside}))
    space = OnnxSpace(folder.name, folder, "cpu")
    rate = spec.audio.sample_rate_hz if spec.audio else 1
    prepared = {view: [end(sample) for sample in _samples(view, rate)] for view, end in space.front_ends.items()}
    for view, inputs in prepared.items():
        space.encode(view, inputs)
    return beside


def _samples(view: View, sample_rate_hz: int) -> list[Payload]:
    """Return two small inputs of a view."""
    import numpy as np

    from mmsearch.types import View

    if view is View.TEXT:
        return list(_TEXTS)
    if view is View.AUDIO:
        wave = np.sin(np.arange(2 * sample_rate_hz, dtype=np.float32) / 20)
        return [wave, wave[: len(wave) // 2]]
    from PIL import Image

    return [Image.linear_gradient("L").convert("RGB"), Image.new("RGB", (48, 64), "orange")]


def _limit(model_bytes: int) -> None:
    """Limit memory, CPU time and cores of this process, and forbid it to write files."""
    if hasattr(os, "sched_setaffinity"):  # each thread of onnxruntime takes memory, so use few cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    try:
        import resource
    except ImportError:  # Windows
        return
    seconds = round(CPU_S + CPU_S_PER_GIB * model_bytes / 2**30)
    limits = {
        resource.RLIMIT_DATA: BASE_BYTES + TIMES_SIZE * model_bytes,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (soft, hard))
