"""The shim of shim.c from Python: how it is built, loaded and armed."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
CONNECTED = "FAULT_CONNECTED"
"""The variable that names the file in which a refused connection is noted."""


class Mode(IntEnum):
    """What happens at the n-th call below the roots; the numbers are those of shim.c."""

    COUNT = 0
    """Nothing: calls are counted."""
    KILL = 1
    """The process is killed before the call."""
    TORN = 2
    """The process is killed before the call, or in the middle of it where it writes."""
    FAIL = 3
    """The call fails."""
    FULL = 4
    """The call fails, and so does every later one that takes room on the disk."""
    SHORT = 5
    """The call does half of what it was asked to write, and says so."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens, at which call (from 1), and with which errno."""

    mode: Mode
    at: int = 0
    error: int = 0


def missing() -> str:
    """Return why the shim can't be used on this machine, or ""."""
    if sys.platform != "linux":
        return "calls are only intercepted on Linux (LD_PRELOAD, /proc)"
    if _compiler() is None:
        return "there is no C compiler (cc)"
    return ""


def build(folder: Path) -> Path:
    """Compile the shim into a folder and return it. Raises `RuntimeError` where `missing` says why not."""
    compiler = _compiler()
    if compiler is None:
        raise RuntimeError(missing())
    library = folder / "shim.so"
    options = ("-O2", "-shared", "-fPIC", "-fvisibility=hidden")
    subprocess.run([compiler, *options, "-o", library, SOURCE, "-ldl"], check=True, capture_output=True)
    return library


def environment(library: Path, **more: str) -> dict[str, str]:
    """Return the variables of a process that the shim is loaded into; one thread each, so that it may be forked."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MMSEARCH_")}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**own, **threads, "HF_HUB_OFFLINE": "1", "LD_PRELOAD": str(library), **more}


@cache
def _loaded() -> ctypes.CDLL:
    shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
    shim.fault_arm.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int)
    for name in ("fault_counted", "fault_fired"):
        getattr(shim, name).restype = ctypes.c_long
    shim.fault_trace.restype = ctypes.c_char_p
    return shim


def arm(fault: Fault, roots: Iterable[Path]) -> None:
    """Let a fault happen in this process, at a call below one of at most four folders."""
    _loaded().fault_arm("\n".join(map(str, roots)).encode(), fault.mode, fault.at, fault.error)


def disarm() -> tuple[str, bool]:
    """End it; return a letter for each call that was counted, and whether the fault has happened."""
    shim = _loaded()
    shim.fault_disarm()
    return shim.fault_trace().decode(), bool(shim.fault_fired())


def _compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")
