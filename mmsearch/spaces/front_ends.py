"""The front ends that spec files describe, for pictures, texts and waveforms. They have no weights."""

from __future__ import annotations

import html
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.errors import ModelError, one_line
from mmsearch.files import read_bounded
from mmsearch.resample import resample

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from mmsearch.spaces.base import Prepared, SoundFrontEnd
    from mmsearch.types import Payload

RESIZES = ("squash", "shortest", "longest")
FILTERS = ("bilinear", "bicubic")
MOST_TOKENIZER_BYTES = 2**26
"""The largest `tokenizer.json` that is known, Gemma's, takes 34 MB."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Scales a picture, with antialiasing, to the size (height, width) of an image tower's input.

    `resize` is "squash" (ignore the aspect ratio, so that no edge is lost), "shortest" (keep it and crop the centre) or
    "longest" (keep it and pad with `fill`). The pixels equal those of open_clip's transform for evaluation (open_clip
    3.3, transform.py).
    """

    size: tuple[int, int]
    resize: str = "squash"
    interpolation: str = "bilinear"
    fill: int = 0

    @property
    def side(self) -> int:
        """The longer side of the tower's input in pixels."""
        return max(self.size)

    def __call__(self, payload: Payload) -> Prepared:
        """Return (height, width, 3) uint8, RGB."""
        from PIL import Image

        if not isinstance(payload, Image.Image):
            raise TypeError(f"an image tower takes a picture, not {type(payload).__name__}")
        picture = payload if payload.mode == "RGB" else payload.convert("RGB")
        filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        picture = picture.resize(self._resized(*picture.size), filters[self.interpolation])
        return _centred(np.asarray(picture, dtype=np.uint8), self.size, self.fill)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height to which a picture is scaled before cropping or padding."""
        tall, wide = self.size
        if self.resize == "squash":
            return wide, tall
        if self.resize == "shortest" and tall == wide:  # as torchvision's Resize, which rounds the longer side down
            shorter = min(width, height)
            return int(tall * width / shorter), int(tall * height / shorter)
        ratios = (height / tall, width / wide)
        ratio = max(ratios) if self.resize == "longest" else min(ratios)
        return round(width / ratio), round(height / ratio)


def _centred(pixels: np.ndarray, size: tuple[int, int], fill: int) -> np.ndarray:
    """Pad and crop (h, w, 3) pixels around their centre, with torchvision's rounding."""
    missing = [max(0, wanted - actual) for wanted, actual in zip(size, pixels.shape[:2], strict=True)]
    if any(missing):
        margins = [(rows // 2, rows - rows // 2) for rows in missing]
        pixels = np.pad(pixels, (*margins, (0, 0)), constant_values=fill)
    top, left = (round((actual - wanted) / 2) for wanted, actual in zip(size, pixels.shape[:2], strict=True))
    return pixels[top : top + size[0], left : left + size[1]]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Cleans a text with one of `CLEANERS` and turns it into token ids with the tokenizer of a `tokenizer.json`.

    Every method raises `ModelError` if the file can't be read or its tokenizer fails on a text.
    """

    file: Path
    max_ids: int
    clean: str = "none"

    def __call__(self, payload: Payload) -> Prepared:
        """Return (t,) int64 ids, special ones included, t ≤ `max_ids`; a longer text is truncated."""
        if not isinstance(payload, str):
            raise TypeError(f"a text tower takes a text, not {type(payload).__name__}")
        words = self._encode(payload)
        with _reported(self.file):
            words.truncate(self.max_tokens)
            return np.asarray(_tokenizer(self.file).post_process(words).ids, dtype=np.int64)

    @property
    def vocabulary(self) -> int:
        """Number of different token ids."""
        return _tokenizer(self.file).get_vocab_size()

    @property
    def max_tokens(self) -> int:
        """The longest passage in tokens, special ones excluded."""
        longest = self.max_ids - _tokenizer(self.file).num_special_tokens_to_add(is_pair=False)
        if longest < 1:
            raise ModelError(f"{self.file} leaves no room for words in {self.max_ids} tokens; copy the model again")
        return longest

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, special ones excluded."""
        return len(self._encode(text).ids)

    def _encode(self, text: str) -> Encoding:
        with _reported(self.file):
            return _tokenizer(self.file).encode(CLEANERS[self.clean](_valid(text)), add_special_tokens=False)


def _repaired(text: str) -> str:
    """Return a text without mojibake, HTML entities and control characters."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return text.strip()  # ftfy would change nothing, and takes 0.1 s to import
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def _spaced(text: str) -> str:
    return " ".join(_repaired(text).split())


def _lowercase(text: str) -> str:
    return _spaced(text).lower()


def _canonical(text: str) -> str:
    """Return words in lower case without punctuation, as in SigLIP's training (big_vision, prompt_engineering.py)."""
    bare = _repaired(text).replace("_", " ").translate(str.maketrans("", "", string.punctuation))
    return " ".join(bare.lower().split())


CLEANERS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"none": lambda text: text, "whitespace": _spaced, "lower": _lowercase, "canonicalize": _canonical}
)
"""Functions that clean a text before tokenisation, by open_clip's names (open_clip 3.3, tokenizer.py)."""


@lru_cache(maxsize=8)
def _tokenizer(file: Path) -> Tokenizer:
    from tokenizers import Tokenizer  # loaded only when there is a text

    with _reported(file):
        return Tokenizer.from_buffer(read_bounded(file, MOST_TOKENIZER_BYTES))


class _reported:
    """Raise `ModelError` for any error of the tokenizers library: bare exceptions, and panics of its Rust code.

    A panic is a `BaseException`, which ordinary error handlers don't catch.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, ModelError | MemoryError):
            return
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            reason = (isinstance(error, OSError) and error.strerror) or error
            message = f"{self._file} can't be used ({one_line(reason)}); reinstall the model that it belongs to"
            raise ModelError(message) from error


def _valid(text: str) -> str:
    """Return the text with a question mark for each byte of a command line that isn't valid UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Waveform:
    """Pads or cuts a mono waveform to the length of a sound tower's input."""

    sample_rate_hz: int
    min_samples: int
    max_samples: int

    def __call__(self, payload: Payload) -> Prepared:
        """Return (n,) float32 in [-1, 1], padded with zeros to `min_samples` and cut at `max_samples`."""
        if not isinstance(payload, np.ndarray) or payload.ndim != 1:
            raise TypeError("a sound tower takes a mono waveform, an array of one dimension")
        wave = np.asarray(payload[: self.max_samples], dtype=np.float32)
        return np.pad(wave, (0, max(0, self.min_samples - len(wave))))


@dataclass(frozen=True, slots=True)
class Resampled:
    """Resamples a waveform for a sound tower, if the towers of a model need different sample rates."""

    front_end: SoundFrontEnd
    sample_rate_hz: int

    def __call__(self, payload: Payload) -> Prepared:
        """Return the front end's output for the waveform at the tower's own rate."""
        if not isinstance(payload, np.ndarray):
            raise TypeError("a sound tower takes a mono waveform, an array of one dimension")
        return self.front_end(resample(payload, self.sample_rate_hz, self.front_end.sample_rate_hz))
