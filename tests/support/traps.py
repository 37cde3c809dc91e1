"""A model whose text tower misbehaves as its texts say: what a decoder does on a file made for it."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmsearch import View
from mmsearch.spaces import FrontEnd, Prepared, Vectors, load_profile

if TYPE_CHECKING:
    from mmsearch.types import Payload


class Trap:
    """A front end that misbehaves where a text says so, as a decoder would on a file made for it."""

    max_tokens = 32

    def __call__(self, payload: Payload) -> Prepared:
        words = str(payload).split()
        self._misbehave(words)
        match words:
            case ["swallow"]:
                return np.ones(2**32, np.uint8)
            case ["give", megabytes, _]:
                return np.ones(int(megabytes) * 10**6, np.uint8)
            case ["need", megabytes, _]:
                held = np.ones(int(megabytes) * 10**6, np.uint8)
                time.sleep(0.3)
                del held
            case ["abort", megabytes]:  # as a library does whose allocation fails
                try:
                    np.ones(int(megabytes) * 10**6, np.uint8)
                except MemoryError:
                    os.abort()
        return self._words(payload)

    def _misbehave(self, words: list[str]) -> None:
        match words:
            case ["hang"]:
                time.sleep(600)
            case ["spin"]:
                while True:
                    pass
            case ["block"]:
                sum(range(10**15))  # and no other thread of Python's runs meanwhile
            case ["die"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["leave"]:
                os._exit(3)
            case ["segfault"]:
                signal.signal(signal.SIGSEGV, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGSEGV)
            case ["die", "once", mark]:
                if not Path(mark).exists():
                    Path(mark).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            case ["raise"]:
                raise KeyError("no such thing\nin here")

    @functools.cached_property
    def _words(self) -> FrontEnd:
        return load_profile("hashing").spaces[0].front_ends[View.TEXT]

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class TrapSpace:
    """The hashing space's text tower behind a trap."""

    name, pin, dim, fingerprint = "trap", "trap", 64, "trap-1"

    def __init__(self) -> None:
        self.front_ends: Mapping[View, FrontEnd] = {View.TEXT: Trap()}

    def encode(self, view: View, inputs: Sequence[Prepared]) -> Vectors:
        return load_profile("hashing").spaces[0].encode(view, inputs)

    def background(self, query: View, item: View) -> tuple[float, float]:
        return 0.0, 1.0
