"""The models that have short names, with their sizes, licences and measured recall."""

from __future__ import annotations

from dataclasses import dataclass

from mmsearch.types import View

CLAP_MODEL = "hf-hub:laion/clap-htsat-unfused"
ALIASES = {
    "standard": "ViT-B-32-256/datacomp_s34b_b86k",
    "multilingual": "ViT-B-16-SigLIP2-256/webli",
    "clap": CLAP_MODEL,
}
"""The first space of each downloadable model."""
STANDARD_REPOSITORY = "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"
"""The repository of `standard`; open_clip knows it as well, but importing open_clip takes seconds."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model's line in `mmsearch model list`. `recall` is its text→image recall@1, with the test set."""

    name: str
    dim: int
    views: tuple[View, ...]
    languages: str
    megabytes: float
    licence: str
    recall: str
    summary: str


_PICTURES, _SOUNDS = (View.TEXT, View.VISUAL), (View.TEXT, View.AUDIO)
_MODELS = (
    ModelInfo(
        name="mini",
        dim=256,
        views=(View.TEXT, View.VISUAL, View.AUDIO),
        languages="en de fr cs",
        megabytes=23.9,
        licence="CC BY-NC 4.0",
        recall="Flickr8k dev 13.4",
        summary="embedded: no network, no download, starts at once",
    ),
    # Recall: open_clip, docs/openclip_retrieval_results.csv. Sizes: of the weights that are downloaded, in float32.
    ModelInfo(
        name="standard",
        dim=512,
        views=_PICTURES,
        languages="en",
        megabytes=605.2,
        licence="MIT",
        recall="COCO 39.9, Flickr30k 64.9",
        summary=f"{ALIASES['standard']}, then clap where its extra is installed, then mini",
    ),
    # Recall: Tschannen et al. 2025, SigLIP 2, table 1 (arXiv:2502.14786).
    ModelInfo(
        name="multilingual",
        dim=768,
        views=_PICTURES,
        languages="over 100",
        megabytes=1500.8,
        licence="Apache-2.0",
        recall="COCO 53.2",
        summary=f"{ALIASES['multilingual']}, then clap, then mini; needs the extra 'multilingual'",
    ),
    ModelInfo(
        name="clap",
        dim=512,
        views=_SOUNDS,
        languages="en",
        megabytes=614.6,
        licence="Apache-2.0",
        recall="",
        summary=f"{CLAP_MODEL.partition(':')[2]}, for sounds, then mini; needs the extra 'clap'",
    ),
    ModelInfo(
        name="hashing",
        dim=64,
        views=(View.TEXT, View.VISUAL, View.AUDIO),
        languages="any",
        megabytes=0.0,
        licence="Apache-2.0",
        recall="",
        summary="for tests: knows words and colours, not meaning",
    ),
)


def known_models() -> tuple[ModelInfo, ...]:
    """Return every model with a short name, the embedded one first."""
    return _MODELS
