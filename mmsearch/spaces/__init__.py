"""Joint embedding spaces: their protocol, their implementations, and the models that list them in order."""

from mmsearch.spaces.adapted import Adapted, AdaptedSpace, HeadWeights
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
from mmsearch.spaces.cache import int8_tower
from mmsearch.spaces.models import ModelInfo, known_models
from mmsearch.spaces.onnx import OnnxSpace
from mmsearch.spaces.opening import ADAPTED
from mmsearch.spaces.places import cache_folder
from mmsearch.spaces.profiles import Profile, for_indexing, load_profile, pull_model, resolve_name

__all__ = [
    "ADAPTED",
    "Adapted",
    "AdaptedSpace",
    "FrontEnd",
    "HeadWeights",
    "ImageFrontEnd",
    "ModelInfo",
    "OnnxSpace",
    "Prepared",
    "Profile",
    "SoundFrontEnd",
    "Space",
    "TextFrontEnd",
    "Vectors",
    "cache_folder",
    "decoding_needs",
    "embed",
    "for_indexing",
    "int8_tower",
    "known_models",
    "load_profile",
    "normalise",
    "pull_model",
    "resolve_name",
]
