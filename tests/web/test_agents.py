"""The agents' door, asked by the official SDK's client: in this process, over stdin and stdout, and over HTTP."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx2
import numpy as np
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from PIL import Image
from support.media_maker import GREEN
from support.serving import running

import mmsearch
from mmsearch.web.agents import Agents
from mmsearch.web.service import Service

_Result = TypeVar("_Result")


@pytest.fixture(scope="module")
def service(library: Path) -> Iterator[Service]:
    opened = Service(mmsearch.open(library))
    yield opened
    opened.close()


def words(result: Any, n: int = 0) -> str:  # noqa: ANN401  blocks of several kinds, of which few have words
    """Return the text of a block of a tool's result."""
    text: str = result.content[n].text
    return text


def asking(agents: Agents, ask: Callable[[Client], Awaitable[_Result]]) -> _Result:
    """Return what a client of these tools is told."""

    async def run() -> _Result:
        async with Client(agents.server) as client:
            return await ask(client)

    return anyio.run(run)


def told(agents: Agents, tool: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return what a tool answers in words."""
    result = asking(agents, lambda client: client.call_tool(tool, arguments))
    assert not result.is_error, result.content
    fields: dict[str, Any] = json.loads(words(result))
    return fields


def test_the_tools_only_read_unless_indexing_is_allowed(service: Service) -> None:
    async def tools(client: Client) -> dict[str, bool]:
        listed: list[Any] = (await client.list_tools()).tools
        return {tool.name: tool.annotations.read_only_hint for tool in listed}

    reading = dict.fromkeys(("search", "more_like", "get_item", "status"), True)
    assert asking(Agents(service), tools) == reading
    assert asking(Agents(service, allow_index=True), tools) == reading | {"update_index": False}


def test_a_search_gives_hits_with_their_moments(service: Service) -> None:
    found = told(Agents(service), "search", query="green", kinds=["video"], k=3)
    (hit,) = [hit for hit in found["hits"] if hit["path"].endswith("clip.mp4")]
    assert hit["start_s"] == pytest.approx(2.5, abs=0.6)
    assert set(hit) == {"id", "path", "modality", "confidence", "start_s", "end_s", "text"}
    assert "nothing_here" not in found


def test_nothing_here_is_said(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.library, "answer", lambda _: mmsearch.Answer([], hidden=0, weak=4))
    found = told(Agents(service), "search", query="a submarine")
    assert found["hits"] == []
    assert found["nothing_here"] == "nothing in this library looks, sounds or reads like “a submarine”"
    assert found["weak_matches_left_out"] == 4


def test_more_like_leaves_the_item_itself_out(service: Service, ids: dict[str, int]) -> None:
    found = told(Agents(service), "more_like", item=ids["red.png"], unlike=[ids["green.png"]], k=2)
    assert len(found["hits"]) <= 2
    assert ids["red.png"] not in [hit["id"] for hit in found["hits"]]


def test_an_item_is_shown_as_a_picture_or_a_contact_sheet(service: Service, ids: dict[str, int]) -> None:
    look = {"item": ids["clip.mp4"], "at_s": 4.0}
    result = asking(Agents(service), lambda client: client.call_tool("get_item", look))
    fields = json.loads(words(result))
    assert (fields["id"], len(fields["moments"])) == (ids["clip.mp4"], 2)
    picture: Any = result.content[2]
    assert words(result, 1) == "at 4.0 s, at most 640 pixels a side:"
    assert picture.mime_type == "image/jpeg"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.data))))
    np.testing.assert_allclose(pixels.mean(axis=(0, 1)), GREEN, atol=25)
    sheet = asking(Agents(service), lambda client: client.call_tool("get_item", look | {"end_s": 5.5}))
    assert [block.type for block in sheet.content[1:]] == ["text", "image"] * 6
    note = told(Agents(service), "get_item", item=ids["a note.txt"])
    assert note["texts"][0]["words"] == "milk and bread, and two lemons"


def test_what_is_not_there_or_makes_no_sense_is_an_error_in_a_line(service: Service) -> None:
    for tool, arguments, said in (
        ("get_item", {"item": 9999}, "no item 9999"),
        ("more_like", {"item": 9999}, "no item 9999"),
        ("search", {"query": " "}, "nothing to look for"),
    ):
        result = asking(Agents(service), lambda client, t=tool, a=arguments: client.call_tool(t, a))  # type: ignore[misc]
        assert result.is_error
        assert said in words(result)
        assert "\n" not in words(result)


def test_over_stdin_and_stdout_an_agent_finds_a_moment_and_fetches_its_picture(library: Path) -> None:
    command = ["-m", "mmsearch", "mcp", "--library", str(library)]

    async def run() -> tuple[dict[str, Any], str]:
        process = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))
        async with Client(stdio_client(process)) as client:
            found = await client.call_tool("search", {"query": "green", "kinds": ["video"]})
            hit = json.loads(words(found))["hits"][0]
            shown = await client.call_tool("get_item", {"item": hit["id"], "at_s": hit["start_s"]})
            return hit, shown.content[2].type

    hit, kind = anyio.run(run)
    assert hit["path"].endswith(".mp4")
    assert kind == "image"


def test_over_http_an_agent_needs_the_token_and_is_answered_by_the_warm_library(library: Path) -> None:
    with running(library, token="secret") as (host, port):
        address = f"http://{host}:{port}/mcp"
        assert httpx2.post(address, json={}).status_code == 401
        assert httpx2.post(address, json={}, headers={"host": "evil.example"}).status_code == 403

        async def run() -> dict[str, Any]:
            async with (
                httpx2.AsyncClient(headers={"authorization": "Bearer secret"}) as http,
                Client(streamable_http_client(address, http_client=http)) as client,
            ):
                result = await client.call_tool("status", {})
                fields: dict[str, Any] = json.loads(words(result))
                return fields

        assert anyio.run(run)["media"] == {"audio": 0, "image": 4, "text": 2, "video": 2}
