"""Reads the configuration of a checkpoint with bounds, and refuses one that can't belong to its weights.

A configuration of a few bytes may describe any number of layers. It can also tell the libraries that build the model
to run code that comes with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmsearch.errors import ModelError, one_line
from mmsearch.spaces.spec import read_object

_MAX_BYTES = 2**22
_LIMITS = (
    (re.compile(r".*(layers|depths?)"), 256),
    (re.compile(r".*(image_size|img_size|spec_size|patch_size)"), 4096),
    (re.compile(r"(max_)?(context_length|position_embeddings)"), 2**16),
    (re.compile(r"vocab_size"), 2**22),
    (re.compile(r"feature_size|num_mel_bins"), 1024),
    (re.compile(r"fft_window_size|hop_length"), 2**15),
    (re.compile(r"nb_max_samples|nb_frequency_bins"), 2**25),
    (re.compile(r"(.*_)?(width|dim|hidden_size|intermediate_size|channels|heads)"), 2**16),
)
"""Maximum values of numeric fields, by their names in open_clip and transformers."""
_CODE = ("auto_map", "trust_remote_code")
"""Fields by which a configuration makes a library run code."""
_TOKENIZER_OPTIONS = {"clean", "strip_sep_token", "language", "context_length", "tokenizer_mode"}
"""Tokenizer options of open_clip itself. It passes any other option to transformers."""
_TIMES_WEIGHTS = 8
"""Maximum ratio of the described weights in memory to those on disk, which may be half precision."""
_SMALL_BYTES = 2**28
"""Models up to this size are accepted whatever the size of their weights on disk."""


def read_architecture(file: Path, weights_bytes: int | None = None) -> dict[str, Any]:
    """Return the configuration in a file. Raises `ModelError` if it describes a larger model than its weights are.

    Without `weights_bytes`, the file is trusted: it is one of open_clip's own.
    """
    try:
        config = read_object(file, _MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ModelError(f"{file} can't be read ({one_line(reason, 120)}); copy the model again") from None
    if weights_bytes is None:
        return config
    needed = 0
    for section in _sections(config):
        if fault := _fault_of(section):
            raise ModelError(f"{file} can't be used ({fault}); choose another model, or correct it")
        needed += _min_bytes(section)
    if needed > _TIMES_WEIGHTS * weights_bytes + _SMALL_BYTES:
        raise ModelError(f"{file} describes a larger model than its weights are; copy the model again")
    return config


def _sections(value: object) -> Iterator[Mapping[str, Any]]:
    """Yield every object in a configuration."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _sections(part)


def _fault_of(section: Mapping[str, Any]) -> str:
    """Return why a field of a section is refused, "" if all are accepted."""
    for name, value in section.items():
        if name in _CODE and value:
            return f"{name} would run code that comes with the model"
        if name == "tokenizer_kwargs" and not (isinstance(value, dict) and value.keys() <= _TOKENIZER_OPTIONS):
            return "tokenizer_kwargs has options that mmsearch doesn't pass on"
        limit = next((limit for pattern, limit in _LIMITS if pattern.fullmatch(name)), None)
        numbers = value if isinstance(value, list) else [value]
        if limit and any(type(number) in (int, float) and not -limit <= number <= limit for number in numbers):
            return f"{one_line(name, 40)} is more than {limit:,}"
    return ""


def _min_bytes(section: Mapping[str, Any]) -> int:
    """Return the least memory that the transformer of a section takes, 0 if the section describes none."""
    layers = section.get("layers", section.get("num_hidden_layers", 0))
    width = section.get("width", section.get("hidden_size", 0))
    words = section.get("vocab_size", 0)
    blocks = layers if type(layers) is int else 0
    width, words = (value if type(value) is int else 0 for value in (width, words))
    return 4 * (8 * blocks * width**2 + words * width)
