"""Front ends that spec files describe: the picture, the tokenizer and the waveform steps, without any weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from mmsearch.spaces.base import Prepared
    from mmsearch.types import Payload


@dataclass(frozen=True, slots=True)
class SquashedPicture:
    """Resizes the whole picture to a square, antialiased and without a crop, so that nothing at its edges is lost."""

    side: int

    def __call__(self, payload: Payload) -> Prepared:
        """Return (side, side, 3) uint8, RGB."""
        from PIL import Image

        if not isinstance(payload, Image.Image):
            raise TypeError(f"an image tower takes a picture, not {type(payload).__name__}")
        picture = payload.convert("RGB")
        return np.asarray(picture.resize((self.side, self.side), Image.Resampling.BILINEAR), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Turns a text into token ids with the tokenizer in a `tokenizer.json`."""

    file: Path
    max_ids: int

    def __call__(self, payload: Payload) -> Prepared:
        """Return (t,) int64 ids with the special ones, t ≤ `max_ids`; what is longer is cut at its end."""
        if not isinstance(payload, str):
            raise TypeError(f"a text tower takes a text, not {type(payload).__name__}")
        tokenizer = _tokenizer(self.file)
        words = tokenizer.encode(_valid(payload), add_special_tokens=False)
        words.truncate(self.max_tokens)
        return np.asarray(tokenizer.post_process(words).ids, dtype=np.int64)

    @property
    def max_tokens(self) -> int:
        """The longest passage, in tokens that carry words."""
        return self.max_ids - _tokenizer(self.file).num_special_tokens_to_add(is_pair=False)

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text takes, without the special ones."""
        return len(_tokenizer(self.file).encode(_valid(text), add_special_tokens=False).ids)


@lru_cache(maxsize=8)
def _tokenizer(file: Path) -> Tokenizer:
    from tokenizers import Tokenizer  # loaded only when there is a text

    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library raises bare exceptions
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"{file} can't be loaded ({reason}); reinstall the model it belongs to") from error


def _valid(text: str) -> str:
    """Return the text with a question mark for each byte that was no UTF-8 when it came from a command line."""
    return text.encode("utf-8", "replace").decode("utf-8")


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
