"""Joint embedding spaces: one protocol, and the profiles that order them."""

from mmsearch.spaces.base import (
    FrontEnd,
    ImageFrontEnd,
    Prepared,
    SoundFrontEnd,
    Space,
    TextFrontEnd,
    Vectors,
    decoding_needs,
    embed,
    normalise,
)
from mmsearch.spaces.profiles import ModelInfo, Profile, known_models, load_profile, resolve_name

__all__ = [
    "FrontEnd",
    "ImageFrontEnd",
    "ModelInfo",
    "Prepared",
    "Profile",
    "SoundFrontEnd",
    "Space",
    "TextFrontEnd",
    "Vectors",
    "decoding_needs",
    "embed",
    "known_models",
    "load_profile",
    "normalise",
    "resolve_name",
]
