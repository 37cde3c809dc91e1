"""Reads the `spec.json` of a space folder with bounds, validates it, and returns typed records.

A folder may come from anyone, so every field has a type and a range, and file names must not contain a folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmsearch.errors import ModelError, one_line
from mmsearch.files import read_bounded
from mmsearch.spaces.front_ends import CLEANERS, FILTERS, RESIZES, Picture
from mmsearch.spaces.mel import PADDINGS, LogMel
from mmsearch.types import View

SPEC = "spec.json"
TOKENIZER = "tokenizer.json"
PIECES = "pieces.npz"
TOWERS = {View.VISUAL: "image", View.TEXT: "text", View.AUDIO: "audio"}
"""The sections of a spec, by the view of their tower."""
MOST_DIM = 8192
_MOST_SPEC_BYTES = 2**20
_MOST_SIDE = 4096
_MOST_IDS = 8192
_RATES_HZ = (1_000, 384_000)
_MOST_SECONDS = 600
_MIN_STD = 1e-6
_HEXADECIMAL = set("0123456789abcdef")

Background = Mapping[str, tuple[float, float]]
"""Score distributions: mean and standard deviation of the cosine of unrelated payloads, by views: "text-visual"."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image tower: its file, its front end, and each channel's mean and standard deviation, for pixels 0 to 255."""

    file: str
    front_end: Picture
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TextSpec:
    """A text tower. `max_ids` includes special tokens; ids are padded with `pad_id` to `pad_to` (0: to the longest).

    `pieces` is the file of a unigram vocabulary, "" if the tokenizer is in `tokenizer.json`.
    """

    file: str
    max_ids: int
    clean: str
    pad_to: int
    pad_id: int
    pieces: str = ""


@dataclass(frozen=True, slots=True)
class SoundSpec:
    """A sound tower: its file, its sample rate and, if it takes one, its spectrogram with the name of its filters."""

    file: str
    sample_rate_hz: int
    mel: LogMel | None


@dataclass(frozen=True, slots=True)
class SpaceSpec:
    """A space of ONNX towers. The fingerprint is that of a checkpoint if `is_exported`, else that of this spec."""

    dim: int
    fingerprint: str
    is_exported: bool
    image: ImageSpec | None
    text: TextSpec | None
    audio: SoundSpec | None
    digests: Mapping[str, str]
    """The SHA-256 of files, by name; empty if the spec has none."""
    background: Background

    @property
    def towers(self) -> Mapping[View, str]:
        """The ONNX file of each view."""
        sections = {View.VISUAL: self.image, View.TEXT: self.text, View.AUDIO: self.audio}
        return {view: section.file for view, section in sections.items() if section is not None}

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the space except the external weights of its towers."""
        beside = [self.text.pieces or TOKENIZER] if self.text else []
        if self.audio and self.audio.mel:
            beside.append(self.audio.mel.filters.name)
        return tuple(dict.fromkeys((SPEC, *self.towers.values(), *beside)))


@dataclass(frozen=True, slots=True)
class AdaptedSpec:
    """A space of heads over the towers of other spaces. `towers` has the pin and fingerprint of each view's base."""

    dim: int
    towers: Mapping[View, tuple[str, str]]
    heads_file: str
    heads_digest: str
    background: Background
    profile: str
    """The model that was adapted."""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the space."""
        return (SPEC, self.heads_file)


def read_object(file: Path, most_bytes: int = _MOST_SPEC_BYTES) -> dict[str, Any]:
    """Return the JSON object in a file. Raises `OSError`, and `ValueError` if it isn't a JSON object."""
    try:
        value = json.loads(read_bounded(file, most_bytes))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def is_adapted(folder: Path) -> bool:
    """Return whether a space folder holds heads rather than towers."""
    try:
        return "heads" in read_object(folder / SPEC)
    except (OSError, ValueError):
        return False


def read_spec(folder: Path) -> SpaceSpec:
    """Return the spec of a space of ONNX towers. Raises `ModelError` if any field is invalid."""
    try:
        return _space_spec(read_object(folder / SPEC))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder} is not a space folder ({_reason(error)}); it needs a valid spec.json: copy it again"
        ) from error


def read_adapted_spec(folder: Path) -> AdaptedSpec:
    """Return the spec of an adapted space. Raises `ModelError` if any field is invalid."""
    try:
        return _adapted_spec(read_object(folder / SPEC))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} isn't a complete adapted space ({_reason(error)}); run 'mmsearch adapt'") from error


def _reason(error: OSError | ValueError) -> str:
    return one_line((isinstance(error, OSError) and error.strerror) or error)


class _Fields:
    """A JSON object whose fields are read with a type and a range. Raises `ValueError`, which names the field."""

    def __init__(self, fields: object, name: str = SPEC) -> None:
        if not isinstance(fields, dict):
            raise ValueError(f"{name} is no JSON object")
        self._fields: dict[str, Any] = fields
        self._name = name

    def section(self, name: str) -> _Fields | None:
        value = self._fields.get(name)
        return None if value is None else _Fields(value, name)

    def whole(self, name: str, least: int, most: int, default: int | None = None) -> int:
        value = self._fields.get(name, default)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{self._name}: {name} is not a whole number from {least} to {most}")
        return value

    def one_of(self, name: str, options: Sequence[str], default: str | None = None) -> str:
        value = self._fields.get(name, default)
        if not isinstance(value, str) or value not in options:
            raise ValueError(f"{self._name}: {name} is none of {', '.join(options)}")
        return value

    def like(self, name: str, is_one: Callable[[str], bool]) -> str:
        value = self._fields.get(name)
        if not isinstance(value, str) or not is_one(value):
            raise ValueError(f"{self._name}: {name} is not of the form that mmsearch writes")
        return value

    def words(self, name: str, most: int, default: str | None = None) -> str:
        value = self._fields.get(name, default)
        if not isinstance(value, str) or len(value) > most or (not value and default is None):
            raise ValueError(f"{self._name}: {name} is no text of at most {most} characters")
        return value

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        value = self._fields.get(name)
        if not isinstance(value, list) or len(value) != count or not all(_is_number(one) for one in value):
            raise ValueError(f"{self._name}: {name} is not {count} numbers")
        return tuple(float(one) for one in value)

    def pairs(self, name: str, most: int) -> Mapping[str, Any]:
        value = self._fields.get(name) or {}
        if not isinstance(value, dict) or len(value) > most:
            raise ValueError(f"{self._name}: {name} is no object of at most {most} fields")
        return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e9  # NaN is no less


def _space_spec(raw: Mapping[str, Any]) -> SpaceSpec:
    fields = _Fields(raw)
    # The spec has the digest of every file, so these parts of it cover both weights and preprocessing.
    defining = {key: raw.get(key) for key in ("dim", "files", *TOWERS.values())}
    digest = hashlib.blake2b(json.dumps(defining, sort_keys=True).encode(), digest_size=8).hexdigest()
    # An export has the fingerprint of its checkpoint, which doesn't depend on the exporter or the precision.
    is_exported = "fingerprint" in raw
    image, text, audio = (fields.section(name) for name in TOWERS.values())
    spec = SpaceSpec(
        dim=fields.whole("dim", 1, MOST_DIM),
        fingerprint=fields.like("fingerprint", is_fingerprint) if is_exported else digest,
        is_exported=is_exported,
        image=None if image is None else _image_spec(image),
        text=None if text is None else _text_spec(text),
        audio=None if audio is None else _sound_spec(audio),
        digests=_digests(fields),
        background=_background(fields),
    )
    if not spec.towers:
        raise ValueError("it names no tower")
    return spec


def _image_spec(fields: _Fields) -> ImageSpec:
    shape = fields.section("transform")
    if shape is None:  # the picture is squashed to a square
        side = fields.whole("size", 1, _MOST_SIDE)
        picture = Picture((side, side))
    else:
        tall, wide = shape.numbers("size", 2)
        if not all(1 <= side <= _MOST_SIDE and side == int(side) for side in (tall, wide)):
            raise ValueError(f"transform: size is not two whole numbers from 1 to {_MOST_SIDE}")
        picture = Picture(
            (int(tall), int(wide)),
            shape.one_of("resize", RESIZES, "squash"),
            shape.one_of("interpolation", FILTERS, "bilinear"),
            shape.whole("fill", 0, 255, 0),
        )
    std = fields.numbers("std", 3)
    if not all(value > 0 for value in std):
        raise ValueError("image: std is not three numbers above 0")
    return ImageSpec(fields.like("file", _is_tower_name), picture, fields.numbers("mean", 3), std)


def _text_spec(fields: _Fields) -> TextSpec:
    max_ids = fields.whole("max_len", 1, _MOST_IDS)
    pad_to = fields.whole("pad_to", 0, _MOST_IDS, 0)
    if 0 < pad_to < max_ids:
        raise ValueError("text: pad_to is less than max_len")
    return TextSpec(
        file=fields.like("file", _is_tower_name),
        max_ids=max_ids,
        clean=fields.one_of("clean", tuple(CLEANERS), "none"),
        pad_to=pad_to,
        pad_id=fields.whole("pad_id", 0, 2**31 - 1, 0),
        pieces=fields.one_of("pieces", ("", PIECES), ""),
    )


def _sound_spec(fields: _Fields) -> SoundSpec:
    rate = fields.whole("sample_rate", *_RATES_HZ)
    mel = fields.section("mel")
    return SoundSpec(fields.like("file", _is_tower_name), rate, None if mel is None else _mel(mel, rate))


def _mel(fields: _Fields, rate: int) -> LogMel:
    n_fft = fields.whole("n_fft", 2, 2**15)
    return LogMel(
        sample_rate_hz=rate,
        filters=Path(fields.like("filters", is_file_name)),
        n_fft=n_fft,
        hop=fields.whole("hop", 16, 2**20),
        max_samples=fields.whole("max_samples", n_fft, _MOST_SECONDS * rate),
        bands=fields.whole("bands", 1, 1024),
        padding=fields.one_of("padding", PADDINGS),
    )


def _digests(fields: _Fields) -> Mapping[str, str]:
    digests = fields.pairs("files", 64)
    for name, digest in digests.items():
        if not is_file_name(name) or not isinstance(digest, str) or not _is_sha256(digest):
            raise ValueError("files: it isn't a list of file names with their SHA-256")
    return digests


def _background(fields: _Fields) -> Background:
    table = _Fields(fields.pairs("background", 16), "background")
    distributions = {pair: table.numbers(pair, 2) for pair in fields.pairs("background", 16)}
    if not all(abs(mean) <= 1 and 0 <= std <= 2 for mean, std in distributions.values()):
        raise ValueError("background: it isn't mean and standard deviation of cosines")
    # A standard deviation of zero was measured on too few pairs, and would cause a division by zero.
    return {pair: (mean, std) for pair, (mean, std) in distributions.items() if std >= _MIN_STD}


def _adapted_spec(raw: Mapping[str, Any]) -> AdaptedSpec:
    fields = _Fields(raw)
    heads, towers = fields.section("heads"), fields.pairs("towers", len(View))
    if heads is None or not towers:
        raise ValueError("it names no heads, or no towers")
    bases = {}
    for view, value in towers.items():
        base = _Fields(value, f"towers: {one_line(view, 20)}")
        if view not in list(View):
            raise ValueError(f"towers: {one_line(view, 20)!r} is no view")
        bases[View(view)] = (base.words("pin", 4096), base.words("fingerprint", 64))
    return AdaptedSpec(
        dim=fields.whole("dim", 1, MOST_DIM),
        towers=bases,
        heads_file=heads.like("file", is_file_name),
        heads_digest=heads.like("digest", _is_sha256),
        background=_background(fields),
        profile=fields.words("profile", 4096, ""),
    )


def is_file_name(name: str) -> bool:
    """Return whether a text is a plain file name, which can't lead out of its folder."""
    plain = name.isascii() and name.translate({ord(sign): None for sign in "_.-"}).isalnum()
    return plain and len(name) <= 100 and name[0] not in ".-"


def is_fingerprint(text: str) -> bool:
    """Return whether a text has the form of a fingerprint: 16 hexadecimal digits."""
    return len(text) == 16 and set(text) <= _HEXADECIMAL


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= _HEXADECIMAL


def _is_tower_name(name: str) -> bool:
    return name.endswith(".onnx") and is_file_name(name)
