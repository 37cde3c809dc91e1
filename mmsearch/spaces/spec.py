"""The `spec.json` of a space folder: read with bounds, checked in one place, and turned into typed records.

A folder may come from anyone, so every field has a type and a range, and a file is named without its folder.
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
"""The sections of a spec, by the view that they embed."""
MOST_DIM = 8192
_MOST_SPEC_BYTES = 2**20
_MOST_SIDE = 4096
_MOST_IDS = 8192
_RATES_HZ = (1_000, 384_000)
_MOST_SECONDS = 600
_LEAST_STD = 1e-6
_HEXADECIMAL = set("0123456789abcdef")

Background = Mapping[str, tuple[float, float]]
"""Mean and standard deviation of the cosine of unrelated payloads, by the two views: text-visual."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image tower: its file, its front end, and mean and deviation of each channel, of pixels from 0 to 255."""

    file: str
    front_end: Picture
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TextSpec:
    """A text tower: `max_ids` includes special tokens; ids are padded with `pad_id` to `pad_to`, 0 for the longest.

    `pieces` is the file of a unigram vocabulary, "" where `tokenizer.json` has the tokenizer.
    """

    file: str
    max_ids: int
    clean: str
    pad_to: int
    pad_id: int
    pieces: str = ""


@dataclass(frozen=True, slots=True)
class SoundSpec:
    """A sound tower: its file, its sample rate, and its spectrogram where it takes one, whose filters are a name."""

    file: str
    sample_rate_hz: int
    mel: LogMel | None


@dataclass(frozen=True, slots=True)
class SpaceSpec:
    """A space of ONNX towers. `is_exported`: the fingerprint is the checkpoint's; else it is made of this spec."""

    dim: int
    fingerprint: str
    is_exported: bool
    image: ImageSpec | None
    text: TextSpec | None
    audio: SoundSpec | None
    digests: Mapping[str, str]
    """The SHA-256 of files, where the spec holds them."""
    background: Background

    @property
    def towers(self) -> Mapping[View, str]:
        """The ONNX file of each view."""
        sections = {View.VISUAL: self.image, View.TEXT: self.text, View.AUDIO: self.audio}
        return {view: section.file for view, section in sections.items() if section is not None}

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that the space is read from, but for external data of its towers."""
        beside = [self.text.pieces or TOKENIZER] if self.text else []
        if self.audio and self.audio.mel:
            beside.append(self.audio.mel.filters.name)
        return tuple(dict.fromkeys((SPEC, *self.towers.values(), *beside)))


@dataclass(frozen=True, slots=True)
class AdaptedSpec:
    """A space of heads over the towers of other spaces: of each view the pin and the fingerprint of its base."""

    dim: int
    towers: Mapping[View, tuple[str, str]]
    heads_file: str
    heads_digest: str
    background: Background
    profile: str
    """The profile that was adapted."""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that the space is read from."""
        return (SPEC, self.heads_file)


def read_object(file: Path, most_bytes: int = _MOST_SPEC_BYTES) -> dict[str, Any]:
    """Return the JSON object in a file. Raises `OSError`, and `ValueError` for anything else than an object."""
    try:
        found = json.loads(read_bounded(file, most_bytes))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def is_adapted(folder: Path) -> bool:
    """Return whether a space folder holds heads, and not towers."""
    try:
        return "heads" in read_object(folder / SPEC)
    except (OSError, ValueError):
        return False


def read_spec(folder: Path) -> SpaceSpec:
    """Return the spec of a space of ONNX towers. Raises `ModelError` where anything in it is out of its range."""
    try:
        return _space_spec(read_object(folder / SPEC))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder} is not a space folder ({_reason(error)}); it needs a spec.json as it was written: copy it again"
        ) from error


def read_adapted_spec(folder: Path) -> AdaptedSpec:
    """Return the spec of an adapted space. Raises `ModelError` where anything in it is out of its range."""
    try:
        return _adapted_spec(read_object(folder / SPEC))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} is no whole adapted space ({_reason(error)}); run 'mmsearch adapt'") from error


def _reason(error: OSError | ValueError) -> str:
    return one_line((isinstance(error, OSError) and error.strerror) or error)


class _Fields:
    """A JSON object whose fields are taken with their type and range; a `ValueError` says which one is wrong."""

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
    # The spec holds the digest of every file, so these parts of it stand for weights and preprocessing alike.
    defining = {key: raw.get(key) for key in ("dim", "files", *TOWERS.values())}
    digest = hashlib.blake2b(json.dumps(defining, sort_keys=True).encode(), digest_size=8).hexdigest()
    # That of an exported model is made from the checkpoint: another exporter or precision doesn't change its space.
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
    if shape is None:  # it squashes to a square
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
    found = fields.pairs("files", 64)
    for name, digest in found.items():
        if not is_file_name(name) or not isinstance(digest, str) or not _is_sha256(digest):
            raise ValueError("files: it isn't names of files with their SHA-256")
    return found


def _background(fields: _Fields) -> Background:
    table = _Fields(fields.pairs("background", 16), "background")
    found = {pair: table.numbers(pair, 2) for pair in fields.pairs("background", 16)}
    if not all(abs(mean) <= 1 and 0 <= std <= 2 for mean, std in found.values()):
        raise ValueError("background: it isn't mean and deviation of cosines")
    # A deviation of nothing at all was measured on too little, and divides by zero.
    return {pair: (mean, std) for pair, (mean, std) in found.items() if std >= _LEAST_STD}


def _adapted_spec(raw: Mapping[str, Any]) -> AdaptedSpec:
    fields = _Fields(raw)
    heads, towers = fields.section("heads"), fields.pairs("towers", len(View))
    if heads is None or not towers:
        raise ValueError("it names no heads, or no towers")
    found = {}
    for view, value in towers.items():
        base = _Fields(value, f"towers: {one_line(view, 20)}")
        if view not in list(View):
            raise ValueError(f"towers: {one_line(view, 20)!r} is no view")
        found[View(view)] = (base.words("pin", 4096), base.words("fingerprint", 64))
    return AdaptedSpec(
        dim=fields.whole("dim", 1, MOST_DIM),
        towers=found,
        heads_file=heads.like("file", is_file_name),
        heads_digest=heads.like("digest", _is_sha256),
        background=_background(fields),
        profile=fields.words("profile", 4096, ""),
    )


def is_file_name(name: str) -> bool:
    """Return whether a text names a file in a folder, and none elsewhere."""
    plain = name.isascii() and name.translate({ord(sign): None for sign in "_.-"}).isalnum()
    return plain and len(name) <= 100 and name[0] not in ".-"


def is_fingerprint(text: str) -> bool:
    """Return whether a text is of the form of a fingerprint: 16 hexadecimal digits."""
    return len(text) == 16 and set(text) <= _HEXADECIMAL


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= _HEXADECIMAL


def _is_tower_name(name: str) -> bool:
    return name.endswith(".onnx") and is_file_name(name)
