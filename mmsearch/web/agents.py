"""The agents' door: the Model Context Protocol over a library. Tools that search, look closer and say "nothing here".

They only read; with `allow_index` there is one more, which brings the library up to date.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field
from starlette.routing import BaseRoute

from mmsearch import wire
from mmsearch.errors import MMSearchError, why
from mmsearch.holdings import read_item
from mmsearch.records import Segment
from mmsearch.rooted import OutsideRootsError
from mmsearch.types import Answer, Modality
from mmsearch.web.asking import Search, query_of
from mmsearch.web.service import Service

_INSTRUCTIONS = """\
Searches one person's own pictures, videos, sounds and texts by meaning, on their machine. `search` takes plain words,
and returns hits with a confidence from 0 to 1; videos and sounds come with the moment that matched, in seconds. No hits
means that nothing here is like what was asked: say so, and don't guess. `get_item` shows a hit: its facts, what is
written or said in it, and a picture. `more_like` finds what is like a hit."""
_MOST_HITS = 50
_PICTURE_PX = 640
_SHEET = 6
"""How many pictures a contact sheet of a moment has."""
_TEXT_CHARACTERS = 4_000
"""How much of an item's texts is given: those nearest the moment."""
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_Kinds = Annotated[
    list[Literal["image", "video", "audio", "text"]] | None,
    Field(description="Only files of these kinds; else of all."),
]
_Count = Annotated[int, Field(ge=1, le=_MOST_HITS, description="How many hits.")]
_Item = Annotated[int, Field(description="The `id` of a hit.")]


class Agents:
    """The tools over one library."""

    def __init__(self, service: Service, *, allow_index: bool = False) -> None:
        self._service = service
        self.server: MCPServer[Any] = MCPServer(
            "mmsearch", instructions=_INSTRUCTIONS, version=metadata.version("mmsearch"), log_level="ERROR"
        )
        tools: list[Callable[..., Any]] = [self.search, self.more_like, self.get_item, self.status]
        for tool in tools:
            self.server.add_tool(tool, annotations=_READS, structured_output=False)
        if allow_index:
            changes = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True)
            self.server.add_tool(self.update_index, annotations=changes, structured_output=False)

    def search(
        self,
        query: Annotated[str, Field(max_length=2_000, description="What to look for, in plain words.")],
        kinds: _Kinds = None,
        k: _Count = 10,
    ) -> CallToolResult:
        """Find pictures, videos, sounds and texts by what they show, sound like or say."""
        return self._answered(Search(q=query, k=k, kinds=[Modality(kind) for kind in kinds or ()]), f"“{query}”", k)

    def more_like(
        self,
        item: _Item,
        unlike: Annotated[list[int] | None, Field(max_length=8, description="Items to steer away from.")] = None,
        kinds: _Kinds = None,
        k: _Count = 10,
    ) -> CallToolResult:
        """Find what looks, sounds or reads like an item."""
        wanted = [Modality(kind) for kind in kinds or ()]
        return self._answered(Search(like=[item], unlike=unlike or [], k=k + 1, kinds=wanted), f"item {item}", k, item)

    def get_item(
        self,
        item: _Item,
        at_s: Annotated[float | None, Field(ge=0, description="The second to look at; else the beginning.")] = None,
        end_s: Annotated[
            float | None, Field(ge=0, description="With it, a video is shown as a contact sheet from `at_s` to here.")
        ] = None,
    ) -> CallToolResult:
        """Look at an item: its facts, what is written or said near a moment, and a picture of it."""

        def look() -> CallToolResult:
            found, segments = read_item(self._service.library.seen().catalog, item)
            start_s = at_s or 0.0
            fields = wire.from_item(found) | {"texts": _nearest_texts(segments, start_s)}
            moments = [(each.start_s, each.end_s) for each in segments if each.start_s is not None]
            fields["moments"] = [{"start_s": start, "end_s": end} for start, end in moments[:100]]
            blocks: list[Any] = [_as_text(fields)]
            if found.modality in (Modality.IMAGE, Modality.VIDEO):
                blocks += self._pictures(item, found.modality, start_s, end_s)
            return CallToolResult(content=blocks)

        return _told(look)

    def status(self) -> CallToolResult:
        """Say what the library holds."""

        def look() -> CallToolResult:
            status = wire.from_status(self._service.library.status())
            fields = {name: status[name] for name in ("media", "segments", "failures", "roots")}
            job = self._service.jobs.latest()
            return CallToolResult(content=[_as_text(fields | {"index_run": job.as_json() if job else None})])

        return _told(look)

    def update_index(self) -> CallToolResult:
        """Start an index run over the folders that the library remembers; `status` says how far it is."""
        return _told(lambda: CallToolResult(content=[_as_text(self._service.jobs.start().as_json())]))

    def _answered(self, search: Search, asked: str, k: int, without: int | None = None) -> CallToolResult:
        def answer() -> CallToolResult:
            found = self._service.library.answer(query_of(search, self._service))
            return CallToolResult(content=[_as_text(_answer_fields(found, asked, k, without))])

        return _told(answer)

    def _pictures(self, item: int, modality: Modality, start_s: float, end_s: float | None) -> list[Any]:
        """Return what is seen as one picture, or as several of a moment, with a line that says of which seconds."""
        times = [start_s]
        if modality is Modality.VIDEO and end_s is not None and end_s > start_s:
            step_s = (end_s - start_s) / _SHEET
            times = [start_s + (n + 0.5) * step_s for n in range(_SHEET)]
        side = _PICTURE_PX if len(times) == 1 else _PICTURE_PX // 2
        blocks: list[Any] = []
        for time_s in times:
            picture, _ = self._service.still(item, time_s, side)
            said = f"at {time_s:.1f} s, " if modality is Modality.VIDEO else ""
            blocks.append(_text(f"{said}at most {side} pixels a side:"))
            blocks.append(Image(data=picture, format="jpeg").to_image_content())
        return blocks


def _answer_fields(found: Answer, asked: str, k: int, without: int | None) -> dict[str, Any]:
    """Return an answer for an agent: hits without what only a program needs, and a word where there are none."""
    hits = [wire.from_hit(hit) for hit in found.hits if hit.id != without or without is None][:k]
    kept = ("id", "path", "modality", "confidence", "start_s", "end_s", "text")
    fields: dict[str, Any] = {"hits": [{name: hit[name] for name in kept} for hit in hits]}
    if not hits:
        fields["nothing_here"] = f"nothing in this library looks, sounds or reads like {asked}"
    return fields | {"weak_matches_left_out": found.weak, "copies_left_out": found.hidden}


def _nearest_texts(segments: Sequence[Segment[None]], at_s: float) -> list[dict[str, Any]]:
    """Return the texts nearest to a moment, as many as fit, in their order."""
    texts = [(segment, text) for segment in segments for text in segment.texts]

    def distance_s(n: int) -> float:
        segment, text = texts[n]
        start_s = text.span[0] if text.span else segment.start_s
        return 0.0 if start_s is None else abs(start_s - at_s)

    kept: list[int] = []
    left = _TEXT_CHARACTERS
    for n in sorted(range(len(texts)), key=lambda n: (distance_s(n), n)):
        left -= len(texts[n][1].words)
        if left < 0 and kept:
            break
        kept.append(n)
    return [
        {"origin": text.origin, "words": text.words[:_TEXT_CHARACTERS], "start_s": segment.start_s}
        for segment, text in (texts[n] for n in sorted(kept))
    ]


def _told(look: Any) -> CallToolResult:  # noqa: ANN401  a function without arguments
    """Return what a tool finds; what goes wrong is one line that the agent can act on."""
    try:
        result = look()
        assert isinstance(result, CallToolResult)
    except MMSearchError as error:
        return CallToolResult(content=[_text(str(error))], is_error=True)
    except OutsideRootsError:
        return CallToolResult(content=[_text("a link leads out of the library's folders there")], is_error=True)
    except OSError as error:
        return CallToolResult(content=[_text(f"{os.fsdecode(error.filename or '')}: {why(error)}")], is_error=True)
    return result


def _as_text(fields: dict[str, Any]) -> TextContent:
    return _text(json.dumps(fields, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace").decode("utf-8"))


def _text(words: str) -> TextContent:
    return TextContent(type="text", text=words)


async def run_stdio(agents: Agents) -> None:
    """Serve an agent over this process's stdin and stdout until it closes them."""
    await agents.server.run_stdio_async()


def routes_of(agents: Agents) -> list[BaseRoute]:
    """Return the routes of the agents' door of a server; its gate has checked who asks."""
    checked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    door = agents.server.streamable_http_app(stateless_http=True, json_response=True, transport_security=checked)
    return list(door.routes)
