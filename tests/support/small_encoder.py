"""A small file of the sentence encoder's format, with random weights."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from mmsearch.spaces.pieces import SPACE

WIDTH, LAYERS, HEADS, HIDDEN, POSITIONS = 32, 2, 2, 64, 80
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def pieces_of(words: list[str]) -> tuple[str, ...]:
    """Return the pieces of a vocabulary: the prefix, letters, and words with the space before them."""
    letters = sorted({letter for word in words for letter in word})
    return (*SPECIAL, SPACE, f"{SPACE}query", ":", *letters, *(f"{SPACE}{word}" for word in words))


def packed(random: np.random.Generator, rows: int, width: int) -> tuple[bytes, np.ndarray]:
    """Return a random matrix in 4-bit blocks, and what they stand for."""
    numbers = random.integers(0, 16, (rows, width // 32, 32)).astype(np.uint8)
    numbers[..., 0] = 0  # the strongest weight of a block is -8 times its scale
    scales = (random.uniform(0.5, 1.5, (rows, width // 32)) * 0.02).astype(np.float16)
    halves = numbers[..., :16] | (numbers[..., 16:] << 4)
    blocks = np.concatenate([scales[..., None].view(np.uint8), halves], axis=-1)
    return blocks.tobytes(), ((numbers.astype(np.float32) - 8) * scales[..., None]).reshape(rows, width)


def write(file: Path, words: list[str], seed: int = 0) -> dict[str, np.ndarray]:
    """Write a file; return its matrices by name."""
    random, pieces = np.random.default_rng(seed), pieces_of(words)
    arrays: list[tuple[str, int, int, bytes]] = []
    kept: dict[str, np.ndarray] = {}

    def plain(name: str, array: np.ndarray) -> None:
        arrays.append((name, 0, array.size, array.astype(np.float32).tobytes()))

    def matrix(name: str, rows: int, width: int) -> None:
        content, kept[name] = packed(random, rows, width)
        arrays.append((name, 1, rows * width, content))

    def norm(name: str) -> None:
        plain(f"{name}.w", np.ones(WIDTH))
        plain(f"{name}.b", np.zeros(WIDTH))

    matrix("emb.word", len(pieces), WIDTH)
    plain("emb.pos", random.normal(0, 0.02, (POSITIONS, WIDTH)))
    plain("emb.type", np.zeros((2, WIDTH)))
    norm("emb.ln")
    for layer in range(LAYERS):
        for name, rows, width in (
            *((name, WIDTH, WIDTH) for name in ("q", "k", "v", "ao")),
            ("fi", HIDDEN, WIDTH),
            ("fo", WIDTH, HIDDEN),
        ):
            matrix(f"l{layer}.{name}.w", rows, width)
            plain(f"l{layer}.{name}.b", np.zeros(rows))
        norm(f"l{layer}.aln")
        norm(f"l{layer}.oln")

    spelt = [piece.encode() for piece in pieces]
    bounds = np.cumsum([0, *(len(one) for one in spelt)]).astype(np.uint32)
    scores = -np.asarray([len(piece) ** 0.5 for piece in pieces], np.float32)
    sizes = (WIDTH, LAYERS, HEADS, HIDDEN, len(pieces), POSITIONS, 2)
    head = struct.pack("<4sI7ifi", b"E5S1", 1, *sizes, 1e-12, 32)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, int(bounds[-1]))
    head += bounds.tobytes() + scores.tobytes() + b"".join(spelt) + struct.pack("<iI", 0, 0)
    directory = struct.pack("<i", len(arrays))
    entry = sum(2 + len(name.encode()) + struct.calcsize("<BIQQ") for name, *_ in arrays)
    at = len(head) + len(directory) + entry
    for name, kind, count, content in arrays:
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, count, at, len(content))
        at += len(content)
    file.write_bytes(head + directory + b"".join(content for *_, content in arrays))
    return kept
