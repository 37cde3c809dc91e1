"""What may lie where a file of a model belongs: pipes, folders and links."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from support.small_space import Make


def instead(name: str, put: Callable[[Path], object]) -> Make:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        put(folder / name)

    return spoil


_PLACED: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a link to a device": lambda file: file.symlink_to("/dev/zero"),
    "a link to itself": lambda file: file.symlink_to(file.name),
    "a link elsewhere": lambda file: file.symlink_to("/etc/passwd"),
}
FILES: dict[str, Make] = {
    f"{name} is {kind}": instead(name, put)
    for name in ("spec.json", "text.onnx", "tokenizer.json")
    for kind, put in _PLACED.items()
}
