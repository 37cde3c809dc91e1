"""Front ends that spec files describe: the picture, the tokenizer and the waveform steps, without any weights."""

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
from mmsearch.invisible import without_invisible
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
    """Brings a picture to the size (height, width) that an image tower takes, antialiased.

    `resize` says how: "squash" ignores its proportions, so that nothing at its edges is lost; "shortest" keeps them and
    crops the centre; "longest" keeps them and pads with `fill`. The same as open_clip's transform for evaluation, pixel
    by pixel (open_clip 3.3, transform.py).
    """

    size: tuple[int, int]
    resize: str = "squash"
    interpolation: str = "bilinear"
    fill: int = 0

    @property
    def side(self) -> int:
        """The longer side of what the tower sees, in pixels."""
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
        """Return the width and height to which a picture is scaled before it is cropped or padded."""
        tall, wide = self.size
        if self.resize == "squash":
            return wide, tall
        if self.resize == "shortest" and tall == wide:  # torchvision's Resize: the longer side is rounded down
            shorter = min(width, height)
            return int(tall * width / shorter), int(tall * height / shorter)
        ratios = (height / tall, width / wide)
        ratio = max(ratios) if self.resize == "longest" else min(ratios)
        return round(width / ratio), round(height / ratio)


def _centred(pixels: np.ndarray, size: tuple[int, int], fill: int) -> np.ndarray:
    """Pad, then crop (h, w, 3) pixels about their centre, rounding where torchvision does."""
    missing = [max(0, wanted - have) for wanted, have in zip(size, pixels.shape[:2], strict=True)]
    if any(missing):
        around = [(lack // 2, lack - lack // 2) for lack in missing]
        pixels = np.pad(pixels, (*around, (0, 0)), constant_values=fill)
    top, left = (round((have - wanted) / 2) for wanted, have in zip(size, pixels.shape[:2], strict=True))
    return pixels[top : top + size[0], left : left + size[1]]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Turns a text into token ids with the tokenizer in a `tokenizer.json`, after cleaning it as `CLEANERS` says.

    Every method raises `ModelError` where the file can't be read, or its tokenizer fails at a text.
    """

    file: Path
    max_ids: int
    clean: str = "none"

    def __call__(self, payload: Payload) -> Prepared:
        """Return (t,) int64 ids with the special ones, t ≤ `max_ids`; what is longer is cut at its end."""
        if not isinstance(payload, str):
            raise TypeError(f"a text tower takes a text, not {type(payload).__name__}")
        words = self._encode(payload)
        with _reported(self.file):
            words.truncate(self.max_tokens)
            return np.asarray(_tokenizer(self.file).post_process(words).ids, dtype=np.int64)

    @property
    def vocabulary(self) -> int:
        """How many different ids there are."""
        return _tokenizer(self.file).get_vocab_size()

    @property
    def max_tokens(self) -> int:
        """The longest passage, in tokens that carry words."""
        most = self.max_ids - _tokenizer(self.file).num_special_tokens_to_add(is_pair=False)
        if most < 1:
            raise ModelError(f"{self.file} leaves no room for words in {self.max_ids} tokens; copy the model again")
        return most

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text takes, without the special ones."""
        return len(self._encode(text).ids)

    def _encode(self, text: str) -> Encoding:
        with _reported(self.file):
            return _tokenizer(self.file).encode(CLEANERS[self.clean](_valid(text)), add_special_tokens=False)


def _mended(text: str) -> str:
    """Return a text without mojibake, HTML entities and control characters."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return text.strip()  # ftfy has nothing to mend there, and takes 0.1 s to load
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def _spaced(text: str) -> str:
    return " ".join(_mended(text).split())


def _lowered(text: str) -> str:
    return _spaced(text).lower()


def _canonical(text: str) -> str:
    """Return words in lower case without punctuation, as SigLIP was trained on (big_vision, prompt_engineering.py)."""
    bare = _mended(text).replace("_", " ").translate(str.maketrans("", "", string.punctuation))
    return " ".join(bare.lower().split())


CLEANERS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"none": lambda text: text, "whitespace": _spaced, "lower": _lowered, "canonicalize": _canonical}
)
"""How texts are cleaned before they become tokens, by open_clip's names (open_clip 3.3, tokenizer.py)."""


@lru_cache(maxsize=8)
def _tokenizer(file: Path) -> Tokenizer:
    from tokenizers import Tokenizer  # loaded only when there is a text

    with _reported(file):
        return Tokenizer.from_buffer(read_bounded(file, MOST_TOKENIZER_BYTES))


class _reported:
    """Raise `ModelError` where the tokenizers library fails: with bare exceptions, or with a panic.

    A panic of its Rust code is a `BaseException`, which no handler of errors would catch.
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
    """Return the text without what nobody sees, and with a question mark for each byte that was no UTF-8."""
    return without_invisible(text).encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Waveform:
    """Brings a mono waveform to the length that a sound tower takes."""

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
    """Takes a waveform of another rate than a sound tower's, where the towers of a profile want different ones."""

    front_end: SoundFrontEnd
    sample_rate_hz: int

    def __call__(self, payload: Payload) -> Prepared:
        """Return what the front end makes of the waveform at its own rate."""
        if not isinstance(payload, np.ndarray):
            raise TypeError("a sound tower takes a mono waveform, an array of one dimension")
        return self.front_end(resample(payload, self.sample_rate_hz, self.front_end.sample_rate_hz))
