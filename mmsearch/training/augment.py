"""Augmentation: crops that a teacher and its student both look at, and captions that change language."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
_LEAST_AREA = 0.3
_RATIO = 4 / 3
_WORD = re.compile(r"\w+", re.UNICODE)


def crop(pixels: Pixels, row: int, view: int, side: int) -> Pixels:
    """Return a view of a picture (s, s, 3), as (side, side, 3).

    View 0 is all of it; any other a crop of 30 to 100 % of its area, mirrored or not, that depends on the picture's
    row and the view alone: consistent views for teacher and student ("patient" distillation, Beyer et al. 2022,
    arXiv:2106.05237).
    """
    picture = Image.fromarray(pixels)
    if view == 0:
        return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
    random = np.random.default_rng([7, row, view])
    area = random.uniform(_LEAST_AREA, 1.0)
    ratio = np.exp(random.uniform(-np.log(_RATIO), np.log(_RATIO)))
    wide, high = min(1.0, np.sqrt(area * ratio)), min(1.0, np.sqrt(area / ratio))
    left, top = random.uniform(0, 1 - wide), random.uniform(0, 1 - high)
    scale = len(pixels)
    box = (left * scale, top * scale, (left + wide) * scale, (top + high) * scale)
    cut = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box=box))
    return np.ascontiguousarray(cut[:, ::-1]) if random.integers(2) else cut


class CodeSwitch:
    """Replaces words of a caption by translations (M3P, Ni et al. 2021, arXiv:2006.02635).

    `dictionaries` are tables from a word to its translations, by languages: ("en", "de").
    """

    def __init__(self, dictionaries: Mapping[tuple[str, str], Mapping[str, Sequence[str]]]) -> None:
        self._from: dict[str, list[Mapping[str, Sequence[str]]]] = {}
        for (language, _), table in dictionaries.items():
            self._from.setdefault(language, []).append(table)

    def __call__(self, words: str, language: str, share: float, random: np.random.Generator) -> str:
        """Return the caption with each word that a dictionary knows replaced with probability `share`.

        A caption is switched at all with the same probability; each word goes into a language drawn for it alone.
        """
        tables = self._from.get(language)
        if not tables or random.random() >= share:
            return words

        def switched(found: re.Match[str]) -> str:
            if random.random() >= share:
                return str(found[0])
            known = [table[found[0].lower()] for table in tables if found[0].lower() in table]
            if not known:
                return str(found[0])
            options = known[int(random.integers(len(known)))]
            return options[int(random.integers(len(options)))]

        return _WORD.sub(switched, words)


def read_dictionaries(files: Mapping[str, Path], lines: Mapping[str, Sequence[str]]) -> CodeSwitch:
    """Return what switches codes by word pairs; `lines` are those of each file, by `en-de`: a word, TAB, a word.

    Each pair serves in both directions.
    """
    tables: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name in files:
        one, other = name.split("-")
        for line in lines[name]:
            left, tab, right = line.partition("\t")
            if tab:
                tables.setdefault((one, other), {}).setdefault(left.lower(), []).append(right)
                tables.setdefault((other, one), {}).setdefault(right.lower(), []).append(left)
    return CodeSwitch(tables)
