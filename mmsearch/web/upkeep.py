"""Routes about the library and the server: what it holds, index runs, health and metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from mmsearch import wire
from mmsearch.web.jobs import IndexJob
from mmsearch.web.metrics import CONTENT_TYPE, Metrics
from mmsearch.web.problems import PROBLEMS, Json
from mmsearch.web.service import Service, service_of

router = APIRouter(tags=["library"])
_LOOK_S = 0.2
"""How often a watcher of a job is told what is new."""
_ALIVE_S = 15.0
"""How long nothing may be new before a watcher is told that the server lives."""


_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "An event a change, the last one when it ends", "content": {"text/event-stream": {}}},
    **PROBLEMS,
}


class FacetsOut(BaseModel):
    """How many files there are of each kind, year and camera."""

    modalities: dict[str, int]
    years: dict[str, int]
    cameras: dict[str, int]


class StatusOut(BaseModel):
    """What the library holds."""

    model_config = {"extra": "allow"}

    library: str
    media: dict[str, int]
    segments: int
    failures: int
    roots: list[str]


class HealthOut(BaseModel):
    """The server lives."""

    status: Literal["ok"]


class IndexIn(BaseModel):
    """How to index: see `mmsearch index --help`. Which folders isn't asked: those that the library remembers."""

    model_config = {"extra": "forbid"}

    prune: bool = False
    retry: bool = False


class JobOut(BaseModel):
    """An index run."""

    id: int
    state: Literal["running", "done", "stopped", "failed"]
    done: int
    total: int
    failed: int
    file: str | None
    report: dict[str, Any] | None
    error: str | None


@router.get("/status", responses={200: {"model": StatusOut}, **PROBLEMS}, summary="What the library holds")
def status(service: Annotated[Service, Depends(service_of)]) -> Response:
    """Return what the library holds, the files that failed, and the index run under way."""
    fields = wire.from_status(service.library.status())
    fields["failed"] = [wire.from_failure(failure) for failure in service.library.failures()[:1_000]]
    job = service.jobs.latest()
    fields["job"] = job.as_json() if job is not None else None
    return Json(fields)


@router.get("/facets", responses={200: {"model": FacetsOut}, **PROBLEMS}, summary="What can be filtered by")
def facets(service: Annotated[Service, Depends(service_of)]) -> Response:
    """Return how many files there are of each kind, year and camera."""
    return Json(wire.from_facets(service.library.facets()))


@router.post("/index", status_code=202, responses={202: {"model": JobOut}, **PROBLEMS}, summary="Start an index run")
def index(service: Annotated[Service, Depends(service_of)], asked: IndexIn | None = None) -> Response:
    """Bring the library to what its folders hold; watch the run at `/jobs/{id}/events`."""
    wanted = asked or IndexIn()
    job = service.jobs.start(prune=wanted.prune, retry=wanted.retry)
    return Json(job.as_json(), 202, {"location": f"/jobs/{job.id}"})


@router.get("/jobs/{number}", responses={200: {"model": JobOut}, **PROBLEMS}, summary="How far an index run is")
def job(number: int, service: Annotated[Service, Depends(service_of)]) -> Response:
    """Return an index run as it stands now."""
    return Json(_job(service, number).as_json())


@router.delete("/jobs/{number}", responses={200: {"model": JobOut}, **PROBLEMS}, summary="Stop an index run")
def stop(number: int, service: Annotated[Service, Depends(service_of)]) -> Response:
    """Ask a run for an early end: what is ready is committed."""
    found, latest = _job(service, number), service.jobs.latest()
    if found.state == "running" and latest is not None and latest.id == number:
        service.jobs.stop()
    return Json(found.as_json())


@router.get("/jobs/{number}/events", responses=_EVENTS, summary="Watch an index run")
async def events(number: int, service: Annotated[Service, Depends(service_of)]) -> Response:
    """Send the progress of an index run as server-sent events: the objects that `/jobs/{id}` returns."""
    _job(service, number)
    return StreamingResponse(_events(service, number), 200, {"x-accel-buffering": "no"}, "text/event-stream")


async def _events(service: Service, number: int) -> AsyncIterator[str]:
    version, silent_s = -1, 0.0
    while not service.closing.is_set():
        found = service.jobs.get(number)
        if found is None:
            return
        if found.version != version:
            version, silent_s = found.version, 0.0
            yield f"event: progress\ndata: {json.dumps(found.as_json())}\n\n"
            if found.state != "running":
                return
        elif silent_s >= _ALIVE_S:
            silent_s = 0.0
            yield ": alive\n\n"
        await asyncio.sleep(_LOOK_S)
        silent_s += _LOOK_S


def _job(service: Service, number: int) -> IndexJob:
    found = service.jobs.get(number)
    if found is None:
        raise HTTPException(404, f"there is no index run {number}")
    return found


@router.get("/healthz", responses={200: {"model": HealthOut}, **PROBLEMS}, summary="Whether the server lives")
async def healthz() -> Response:
    """Answer at once, whatever else is going on."""
    return Json({"status": "ok"})


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}, **PROBLEMS}, summary="Counts for Prometheus")
def metrics(request: Request, service: Annotated[Service, Depends(service_of)]) -> Response:
    """Return what is counted, in Prometheus's text format."""
    held, counted = service.library.status(), request.app.state.metrics
    assert isinstance(counted, Metrics)
    job = service.jobs.latest()
    media = {str(modality): count for modality, count in held.media.items()}
    indexing = job is not None and job.state == "running"
    body = counted.text(media, held.segments, held.failures, indexing=indexing)
    return Response(body, 200, {"content-type": CONTENT_TYPE})
