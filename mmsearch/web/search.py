"""Routes that search: by words and items (GET, JSON), and by files that a client uploads (multipart)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mmsearch import wire
from mmsearch.errors import QueryError, one_line
from mmsearch.types import Answer, Modality
from mmsearch.web.asking import MOST_HITS, Search, query_of
from mmsearch.web.problems import PROBLEMS, Json
from mmsearch.web.service import Service, service_of

router = APIRouter(tags=["search"])
_MOST_FILES = 4
_MOST_FIELDS = 64
_LISTS = ("in", "like", "unlike")


class HitOut(BaseModel):
    """A file that answers, at its best moment. `id` names it in the addresses below `/items`."""

    model_config = {"extra": "allow"}

    rank: int
    score: float
    confidence: float | None
    path: str
    modality: Modality
    view: str
    start_s: float | None
    end_s: float | None
    text: str | None
    space: str
    id: int


class AnswerOut(BaseModel):
    """Hits, best first; how many copies of them were left out, and how many weak matches."""

    hits: list[HitOut]
    hidden: int
    weak: int


_ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": AnswerOut}, **PROBLEMS}
_FORM = {
    "type": "object",
    "properties": {
        "file": {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": _MOST_FILES},
        "q": {"type": "string"},
        "k": {"type": "integer", "minimum": 1, "maximum": MOST_HITS},
        "in": {"type": "array", "items": {"type": "string", "enum": list(Modality)}},
        "like": {"type": "array", "items": {"type": "integer"}},
        "unlike": {"type": "array", "items": {"type": "integer"}},
        "all": {"type": "boolean"},
        "rerank": {"type": "boolean"},
        "explain": {"type": "boolean"},
    },
}
_BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": Search.model_json_schema(ref_template="#/components/schemas/{model}")},
            "multipart/form-data": {"schema": _FORM},
        },
    }
}
_BODIES["requestBody"]["content"]["application/json"]["schema"].pop("$defs", None)  # type: ignore[index]


def _asked(
    q: Annotated[str, Query(max_length=10_000, description="Words.")] = "",
    k: Annotated[int, Query(ge=1, le=MOST_HITS, description="How many hits.")] = 10,
    kinds: Annotated[list[Modality] | None, Query(alias="in", description="Only files of these kinds.")] = None,
    like: Annotated[list[int] | None, Query(max_length=32, description="Items that hits are like.")] = None,
    unlike: Annotated[list[int] | None, Query(max_length=32, description="Items to steer away from.")] = None,
    all: Annotated[bool, Query(description="Also near-duplicates and weak matches.")] = False,
    rerank: Annotated[bool | None, Query(description="Let hits that agree with each other rise.")] = None,
    explain: Annotated[bool, Query(description="Say what each score is made of.")] = False,
) -> Search:
    return Search(
        q=q, k=k, kinds=kinds or [], like=like or [], unlike=unlike or [], all=all, rerank=rerank, explain=explain
    )


@router.get("/search", responses=_ANSWERS, summary="Search by words or items")
def search_by_link(
    search: Annotated[Search, Depends(_asked)], service: Annotated[Service, Depends(service_of)]
) -> Response:
    """Answer a search that is all in the address."""
    return Json(wire.from_answer(service.library.answer(query_of(search, service))))


@router.post("/search", responses=_ANSWERS, openapi_extra=_BODIES, summary="Search by words, items or uploaded files")
async def search_by_body(request: Request, service: Annotated[Service, Depends(service_of)]) -> Response:
    """Answer a search in JSON, or one with a picture, a sound, a clip or a text as multipart."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        asked = _checked(Search.model_validate_json, await request.body())
        return Json(wire.from_answer(await run_in_threadpool(_answer, asked, service)))
    if kind != "multipart/form-data":
        raise HTTPException(415, "send application/json, or multipart/form-data with a file")
    async with request.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS) as form:
        asked, files = _checked(Search.model_validate, _fields_of(form)), _files_of(form)
        return Json(wire.from_answer(await run_in_threadpool(_answer_files, asked, service, files)))


@router.get("/items/{number}/similar", responses=_ANSWERS, summary="More like this")
def similar(
    number: int,
    service: Annotated[Service, Depends(service_of)],
    k: Annotated[int, Query(ge=1, le=MOST_HITS)] = 10,
    kinds: Annotated[list[Modality] | None, Query(alias="in")] = None,
    all: Annotated[bool, Query()] = False,
) -> Response:
    """Return what is most like an item, without the item itself."""
    found = _answer(Search(k=min(k + 1, MOST_HITS), kinds=kinds or [], like=[number], all=all), service)
    others = [hit for hit in found.hits if hit.id != number][:k]
    hits = [replace(hit, rank=rank) for rank, hit in enumerate(others, 1)]
    return Json(wire.from_answer(replace(found, hits=hits)))


def _answer(asked: Search, service: Service, files: list[bytes] | None = None) -> Answer:
    return service.library.answer(query_of(asked, service, files or ()))


def _answer_files(asked: Search, service: Service, uploads: list[UploadFile]) -> Answer:
    with service.uploading():
        files = [upload.file.read() for upload in uploads]
        if not all(files):
            raise QueryError("the file is empty; choose another")
        return _answer(asked, service, files)


def _fields_of(form: FormData) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            if name in _LISTS:
                fields.setdefault(name, []).append(value)
            else:
                fields[name] = value
    return fields


def _files_of(form: FormData) -> list[UploadFile]:
    return [value for _, value in form.multi_items() if isinstance(value, UploadFile)]


def _checked(validate: Any, raw: Any) -> Search:  # noqa: ANN401  two validators of pydantic, each with its input
    try:
        search = validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the request"
        raise HTTPException(422, one_line(f"{place}: {first['msg'].lower()}")) from None
    assert isinstance(search, Search)
    return search
