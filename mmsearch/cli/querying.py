"""`mmsearch query`: its options, and how they become a query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmsearch.cli.arguments import (
    AfterOption,
    BeforeOption,
    CameraOption,
    JsonOption,
    LibraryOption,
    LongerOption,
    NameOption,
    NearOption,
    ShorterOption,
    UnderOption,
    WithinOption,
    filter_of,
    read_terms,
)
from mmsearch.cli.loading import loading
from mmsearch.types import Modality


def query(
    terms: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TERM...",
            help="Texts and files to look for, each with a weight if you like: 2:beach, and filters: -camera:pixel",
        ),
    ] = None,
    library: LibraryOption = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1_000_000, help="How many hits.")] = 10,
    modalities: Annotated[
        list[Modality] | None, typer.Option("--in", help="Only files of this kind; may be repeated.")
    ] = None,
    text: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Words, even if a file has that name.")] = None,
    like: Annotated[list[str] | None, typer.Option(metavar="FILE", help="A file, whatever its name.")] = None,
    negative: Annotated[list[str] | None, typer.Option("--not", metavar="TERM", help="Steer away from this.")] = None,
    under: UnderOption = None,
    name: NameOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    near: NearOption = None,
    within: WithinOption = None,
    camera: CameraOption = None,
    longer: LongerOption = None,
    shorter: ShorterOption = None,
    rerank: Annotated[
        bool | None,
        typer.Option(
            "--rerank/--no-rerank",
            help="Let hits that agree with each other rise.",
            show_default="where it was seen to gain",
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say what each score is made of.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show near-duplicates and weak matches too.")] = False,
    paths: Annotated[
        bool,
        typer.Option("--paths", help="Print only the paths, with the moments of sounds and videos: clip.mp4#t=5,9"),
    ] = False,
    nul: Annotated[
        bool, typer.Option("-0", help="End each path with NUL and leave out its moment, for xargs -0; implies --paths.")
    ] = False,
    json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a contact sheet: pictures and players.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the contact sheet in your browser.")] = False,
) -> None:
    """Find what is like these texts and files, or list what filters leave. Exit code 1 where nothing is found."""
    if json and (paths or nul):
        raise typer.BadParameter("choose either --json or --paths", param_hint="--json")
    with loading():
        from mmsearch.cli import hits
        from mmsearch.library import Library
        from mmsearch.search.items import warm_for
        from mmsearch.search.query import Query
        from mmsearch.settings import Settings
    asked, among_terms = read_terms(terms or (), text or (), like or (), negative or ())
    options = filter_of(
        kind=modalities,
        under=under,
        name=name,
        after=after,
        before=before,
        near=near,
        within_km=within,
        camera=camera,
        longer_s=longer,
        shorter_s=shorter,
    )
    chosen = among_terms & options if among_terms and options else among_terms or options
    request = Query(tuple(asked), k, chosen, rerank, cut=not everything, explain=explain)
    warm_for((term.item for term in asked), Settings().limits)
    with Library(library, create=False) as opened:
        answer = opened.answer(request)
        outdated = 0 if json or paths or nul else opened.outdated()
    if json:
        hits.show_json(answer.hits)
    elif paths or nul:
        hits.show_paths(answer.hits, nul=nul)
    else:
        hits.show_hits(answer, outdated)
    if html or show:
        from mmsearch.cli.opening import contact_sheet

        contact_sheet(answer, [*(terms or ()), *(text or ()), *(like or ())], html, show=show)
    if not answer.hits:
        raise typer.Exit(1)
