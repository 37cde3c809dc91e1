"""`/v1/embeddings`, in the shape of OpenAI's: texts → vectors of the library's model."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.responses import Response

from mmsearch.errors import QueryError, WrongModelError
from mmsearch.spaces import decoding_needs
from mmsearch.web.problems import PROBLEMS, Json
from mmsearch.web.service import Service, service_of

router = APIRouter(tags=["embeddings"])
_MOST_INPUTS = 256
_Text = Annotated[str, Field(min_length=1, max_length=20_000)]


class EmbeddingsIn(BaseModel):
    """Texts to embed. `model` may name the library's model, or be left out."""

    input: _Text | Annotated[list[_Text], Field(min_length=1, max_length=_MOST_INPUTS)]
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None


class EmbeddingOut(BaseModel):
    """One vector of length 1: numbers, or the base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class UsageOut(BaseModel):
    """How many tokens were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsOut(BaseModel):
    """The vectors, in the order of the texts."""

    object: Literal["list"]
    data: list[EmbeddingOut]
    model: str
    usage: UsageOut


@router.post("/v1/embeddings", responses={200: {"model": EmbeddingsOut}, **PROBLEMS}, summary="Embed texts")
def embeddings(asked: EmbeddingsIn, service: Annotated[Service, Depends(service_of)]) -> Response:
    """Return one vector a text, in the space in which the library's model compares texts and pictures."""
    profile = service.library.seen().profile
    if asked.model not in ("", "auto", profile.name):
        raise WrongModelError(f"the library's model is {profile.name}, not {asked.model}; leave 'model' out")
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    if not all(text.strip() for text in texts):
        raise QueryError("an empty text has no meaning; give some words")
    vectors = service.library.embed(texts)
    if asked.dimensions not in (None, vectors.shape[1]):
        raise QueryError(f"the model's vectors have {vectors.shape[1]} numbers; leave 'dimensions' out")
    _, _, count_tokens, _ = decoding_needs(profile.front_ends.values())
    tokens = sum(map(count_tokens, texts))
    data = [
        {
            "object": "embedding",
            "index": n,
            "embedding": _packed(vector) if asked.encoding_format == "base64" else vector.tolist(),
        }
        for n, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Json({"object": "list", "data": data, "model": profile.name, "usage": usage})


def _packed(vector: Any) -> str:  # noqa: ANN401  (dim,) float32
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode("ascii")
