"""The application: one library behind its routes, and the gate before all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from importlib import metadata
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from mmsearch.extras import is_installed
from mmsearch.web import embeddings, items, page, problems, search, upkeep
from mmsearch.web.gate import Gate
from mmsearch.web.metrics import Metrics
from mmsearch.web.policy import Policy
from mmsearch.web.ports import ServedLibrary
from mmsearch.web.service import Service

if TYPE_CHECKING:
    from mmsearch.web.agents import Agents


def make_app(library: ServedLibrary, policy: Policy) -> ASGIApp:
    """Return the server of a library, which is closed with it."""
    service = Service(library)

    agents, door = _agents(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.warm)
        async with agents.server.session_manager.run() if agents else nullcontext():
            yield
        await run_in_threadpool(service.close)

    app = FastAPI(
        title="mmsearch",
        summary="Find photos, videos, sounds and notes by what they mean.",
        version=metadata.version("mmsearch"),
        docs_url=None,  # they load scripts from other sites
        redoc_url=None,
        lifespan=lifespan,
        default_response_class=problems.Json,
    )
    app.state.service, app.state.policy, app.state.metrics = service, policy, Metrics()
    problems.install(app)
    for routes in (search, items, upkeep, embeddings, page):
        app.include_router(routes.router)
    if agents is not None:
        app.router.routes.extend(door)
    return Gate(app, policy, app.state.metrics.observe)


def _agents(service: Service) -> tuple[Agents | None, list[BaseRoute]]:
    """Return the agents' door and its routes; none where the extra `[mcp]` isn't installed."""
    if not is_installed("mcp"):
        return None, []
    from mmsearch.web.agents import Agents, routes_of

    agents = Agents(service)
    return agents, routes_of(agents)
