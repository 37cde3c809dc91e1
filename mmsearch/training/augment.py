"""Augmentation: views that a teacher and its student both look at or hear, and captions that change language."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Wave = NDArray[np.float32]
HEARD_S = 3.0
"""How long a view of a sound is."""
HEARD_VERSION = 1
"""Of `hearing` and of what is put behind a sound: teachers are asked again once it changes."""
_LEAST_AREA = 0.3
_RATIO = 4 / 3
_FASTER = np.log(1.25)
_OFTEN, _SELDOM = 0.5, 0.35
"""How often a view of a sound is changed in a way."""
_SILENT = 1e-6
"""The power of what is as good as silent: -60 dB."""
_FAINT, _TRIES = 0.01, 8
"""A stretch with less of a sound's mean power is drawn again, so often."""
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


def hearing(wave: Wave, other: Wave, row: int, view: int, rate_hz: int) -> Wave:
    """Return a view of a sound (samples,) float32 in [-1, 1], with another behind it.

    View 0 is the sound as it is. Any other is `HEARD_S` seconds of it, louder or softer, some of them faster or slower,
    with the other sound 0 to 15 dB below, in noise, duller or brighter. It depends on the sounds, the row and the view
    alone.
    """
    if view == 0:
        return wave
    length = int(HEARD_S * rate_hz)
    random = np.random.default_rng([11, row, view])
    heard: NDArray[Any] = wave
    if random.random() < _OFTEN:
        speed = float(np.exp(random.uniform(-_FASTER, _FASTER)))
        heard = np.interp(np.arange(0, len(wave), speed), np.arange(len(wave)), wave)
    heard = _window(heard, length, random)
    if random.random() < _OFTEN:
        heard = heard + _below(_window(other, length, random), heard, random.uniform(0, 15))
    if random.random() < _SELDOM:
        heard = heard + _below(random.normal(size=length), heard, random.uniform(8, 30))
    if random.random() < _SELDOM:
        heard = heard - random.uniform(-0.6, 0.6) * np.concatenate([[0.0], heard[:-1]])  # a filter of one tap
    heard = heard * 10 ** (random.uniform(-12, 3) / 20)
    return np.asarray(heard / max(1.0, np.abs(heard).max()), np.float32)


def beginning(wave: Wave, length: int) -> Wave:
    """Return how a sound begins, (length,); one that is too short is repeated."""
    return np.resize(wave[:length], length)


def _window(wave: NDArray[Any], length: int, random: np.random.Generator) -> NDArray[Any]:
    """Return a stretch of a sound, not one of its silences."""
    if len(wave) <= length:
        return np.resize(wave, length)
    least = _FAINT * np.mean(wave**2)
    for _ in range(_TRIES):
        start = int(random.integers(len(wave) - length + 1))
        stretch = wave[start : start + length]
        if np.mean(stretch**2) >= least:
            break
    return stretch


def _below(sound: NDArray[Any], loud: NDArray[Any], decibels: float) -> NDArray[Any]:
    """Return a sound so many decibels below another; what is next to silence isn't lifted."""
    ratio = np.sqrt((np.mean(loud**2) + _SILENT) / (np.mean(sound**2) + _SILENT))
    return np.asarray(sound * ratio * 10 ** (-decibels / 20))


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
