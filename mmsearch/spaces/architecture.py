"""The configuration of a checkpoint: read with bounds, and refused where no model with these weights is like it.

A configuration of a few bytes may ask for any number of layers. And the libraries that build the models can be told by
one to run code that comes with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmsearch.errors import ModelError, one_line
from mmsearch.spaces.spec import read_object

_MOST_BYTES = 2**22
_MOST_NUMBERS = (
    (re.compile(r".*(layers|depths?)"), 256),
    (re.compile(r".*(image_size|img_size|spec_size|patch_size)"), 4096),
    (re.compile(r"(max_)?(context_length|position_embeddings)"), 2**16),
    (re.compile(r"vocab_size"), 2**22),
    (re.compile(r"feature_size|num_mel_bins"), 1024),
    (re.compile(r"fft_window_size|hop_length"), 2**15),
    (re.compile(r"nb_max_samples|nb_frequency_bins"), 2**25),
    (re.compile(r"(.*_)?(width|dim|hidden_size|intermediate_size|channels|heads)"), 2**16),
)
"""What numbers may be at most, by the names that open_clip and transformers give them."""
_CODE = ("auto_map", "trust_remote_code")
"""Names by which a configuration has code run."""
_TOKENIZER_OPTIONS = {"clean", "strip_sep_token", "language", "context_length", "tokenizer_mode"}
"""What open_clip may be told of a tokenizer. It hands anything else to transformers."""
_TIMES_WEIGHTS = 8
"""Weights in memory may take so many times as much as on the disk: halves become singles."""
_SMALL_BYTES = 2**28


def read_architecture(file: Path, weights_bytes: int | None = None) -> dict[str, Any]:
    """Return the configuration in a file. Raises `ModelError` for one that no model with so many bytes of weights has.

    Without `weights_bytes`, the file is one of open_clip's own, and trusted.
    """
    try:
        found = read_object(file, _MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ModelError(f"{file} can't be read ({one_line(reason, 120)}); copy the model again") from None
    if weights_bytes is None:
        return found
    needed = 0
    for section in _sections(found):
        if odd := _odd_field(section):
            raise ModelError(f"{file} can't be used ({odd}); choose another model, or mend it")
        needed += _least_bytes(section)
    if needed > _TIMES_WEIGHTS * weights_bytes + _SMALL_BYTES:
        raise ModelError(f"{file} describes a larger model than its weights are; copy the model again")
    return found


def _sections(value: object) -> Iterator[Mapping[str, Any]]:
    """Yield every object in a configuration."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _sections(part)


def _odd_field(section: Mapping[str, Any]) -> str:
    """Return what is wrong with a field of a section, "" if nothing is."""
    for name, value in section.items():
        if name in _CODE and value:
            return f"{name} would run code that comes with the model"
        if name == "tokenizer_kwargs" and not (isinstance(value, dict) and value.keys() <= _TOKENIZER_OPTIONS):
            return "tokenizer_kwargs has options that mmsearch doesn't hand on"
        most = next((most for pattern, most in _MOST_NUMBERS if pattern.fullmatch(name)), None)
        numbers = value if isinstance(value, list) else [value]
        if most and any(type(number) in (int, float) and not -most <= number <= most for number in numbers):
            return f"{one_line(name, 40)} is more than {most:,}"
    return ""


def _least_bytes(section: Mapping[str, Any]) -> int:
    """Return how much memory the layers of a transformer take at least, where a section describes one."""
    layers = section.get("layers", section.get("num_hidden_layers", 0))
    width = section.get("width", section.get("hidden_size", 0))
    words = section.get("vocab_size", 0)
    blocks = layers if type(layers) is int else 0
    width, words = (value if type(value) is int else 0 for value in (width, words))
    return 4 * (8 * blocks * width**2 + words * width)
