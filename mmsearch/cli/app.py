"""The command line: flags → Settings → Library → a table, paths or JSON. A thin shell over the Python calls.

A command imports what it runs, so that `--help` and shell completion load none of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch.cli.arguments import JsonOption, LibraryOption, QueryCommand
from mmsearch.cli.interrupts import stop_on_ctrl_c
from mmsearch.cli.loading import loading
from mmsearch.cli.model_commands import model_app
from mmsearch.cli.progress import progress_bar
from mmsearch.cli.querying import query
from mmsearch.cli.streams import HELP_MARKUP, note, say
from mmsearch.cli.units import count
from mmsearch.extras import needed_for
from mmsearch.paths import expand
from mmsearch.printable import printable

if TYPE_CHECKING:
    from mmsearch.library import Library

app = typer.Typer(
    rich_markup_mode=HELP_MARKUP,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "MMSEARCH"},
    pretty_exceptions_enable=False,
    help="Find photos, videos, sounds and notes by what they mean. Everything runs on this machine.",
)
app.add_typer(model_app, name="model")


def _open(library: Path | None) -> Library:
    """Return an existing library. Raises `NoLibraryError`."""
    with loading():
        from mmsearch.library import Library
    return Library(library, create=False)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        say(f"mmsearch {metadata.version('mmsearch')}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...


@app.command()
def index(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Files and folders to take in; else all that the library remembers."),
    ] = None,
    library: LibraryOption = None,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="The model of a new library, or the one to change to.")
    ] = "auto",
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Leave out names or paths like this; may be repeated.")
    ] = None,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Also drop media in folders that suddenly are empty, and other models' vectors."),
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try failed files again although they didn't change.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Decoding processes.", show_default="cores")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=4096, help="Files encoded and committed together.")] = 64,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where towers run.")] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="auto|fp32|int8", help="Of pictures on a CPU; int8 only after a trial on your own.")
    ] = "auto",
    json: JsonOption = False,
) -> None:
    """Bring the library up to date with these files and folders, or with all that it remembers."""
    with loading():
        from mmsearch.cli import reports
        from mmsearch.folder import LibraryFolder
        from mmsearch.library import Library
        from mmsearch.settings import DEVICES, PRECISIONS, Settings, default_workers
    for option, value, choices in (("--device", device, DEVICES), ("--precision", precision, PRECISIONS)):
        if value not in choices:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(choices)}", param_hint=option)
    settings = Settings(workers=workers or default_workers(), batch=batch, device=device, precision=precision)
    folder = LibraryFolder(library)
    new = not folder.has_catalog
    if new:
        _check_first_paths(paths or (), folder.path)
    with Library(folder.path, model if new else "auto", settings=settings) as opened, stop_on_ctrl_c() as stop:
        with progress_bar(quiet=json) as progress:
            report = opened.index(
                *(paths or ()),
                exclude=exclude or (),
                prune=prune,
                retry=retry,
                model=None if new else model,
                progress=progress,
                stop=stop,
            )
        reports.show_report(report, len(opened.failures()), as_json=json, pruned=prune)
    if report.interrupted:
        raise typer.Exit(130)


def _check_first_paths(paths: Sequence[Path], folder: Path) -> None:
    """Raise `BadParameter` unless there is something to index: no library is made for nothing."""
    missing = [path for path in paths if not os.path.lexists(expand(path))]
    if missing:
        raise typer.BadParameter(f"{printable(missing[0])} doesn't exist; nothing was changed", param_hint="PATH")
    if not paths:
        raise typer.BadParameter(
            f"there is no library in {printable(folder)} yet; name at least one file or folder", param_hint="PATH"
        )


app.command(cls=QueryCommand)(query)


@app.command("eval")
def evaluate(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help='Lines of JSON such as {"query": "red car", "relevant": ["car.jpg"]}')
    ],
    library: LibraryOption = None,
    rerank: Annotated[
        bool | None,
        typer.Option("--rerank/--no-rerank", help="Measure re-ranking, and what it adds.", show_default="as in query"),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Also compare the index with exact search.")] = False,
    synthesize: Annotated[
        bool, typer.Option("--synthesize", help="Don't ask: write FILE, from the library's own captions.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Measure how well the library answers queries whose right answers you know: recall, MRR, nDCG and mAP."""
    from mmsearch.cli import reports
    from mmsearch.evaluation.evaluate import evaluate as measure
    from mmsearch.evaluation.judged import read_judged, write_captions

    if synthesize:
        if exact or rerank is not None:
            raise typer.BadParameter("it only writes FILE; measure with a second call", param_hint="--synthesize")
        with _open(library) as opened:
            reports.show_written(write_captions(opened, file), file, as_json=json)
        return
    with _open(library) as opened:
        judged = read_judged(file)
        with progress_bar("asking", "queries", quiet=json) as progress:
            found = measure(opened, judged, rerank=rerank, exact=exact, progress=progress)
    reports.show_evaluations(found, as_json=json)


@app.command()
def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A TOML file: data, towers, stages, and every number.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the space goes; else beside the recipe, by its name.")
    ] = None,
) -> None:
    """Train a space of your own. A run that was stopped goes on where it stood when called again."""
    with needed_for("training", "train"):
        from mmsearch.training.run import train_recipe

        folder = train_recipe(expand(recipe), expand(out) if out else None, note)
    say(f"{printable(folder)} is ready; --model takes it")


@app.command()
def adapt(library: LibraryOption = None, json: JsonOption = False) -> None:
    """Adapt the model to what the library holds: its captions, and the sounds of its clips. Kept only if it gains."""
    from mmsearch.cli import reports

    with _open(library) as opened:
        with progress_bar("adapting", "steps", quiet=json) as progress:
            report = opened.adapt(progress)
        reports.show_adapted(report, as_json=json)


@app.command()
def status(library: LibraryOption = None, json: JsonOption = False) -> None:
    """Say what the library holds, and what couldn't be indexed."""
    from mmsearch.cli import reports

    with _open(library) as opened:
        reports.show_status(opened.status(), opened.failures(), as_json=json)


@app.command()
def show(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file that the library holds.")],
    library: LibraryOption = None,
    json: JsonOption = False,
) -> None:
    """Print all that is known of a file: its names, facts, segments and texts, and where each text comes from."""
    from mmsearch.cli.details import show_details  # no query pays for it

    with _open(library) as opened:
        show_details(opened.details(path), as_json=json)


@app.command()
def doctor(
    library: LibraryOption = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    json: JsonOption = False,
) -> None:
    """Check everything that the library consists of. Exit code 2 where something is wrong and isn't mended."""
    from mmsearch.cli import reports
    from mmsearch.doctor import examine
    from mmsearch.folder import LibraryFolder

    folder = LibraryFolder(library).path
    checks = examine(folder, lambda: _open(folder), repair=repair)
    reports.show_checks(checks, as_json=json)
    if not all(check.ok for check in checks):
        raise typer.Exit(2)


@app.command()
def forget(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders; they need not exist.")],
    library: LibraryOption = None,
) -> None:
    """Take files out of the library. The files themselves stay."""
    with _open(library) as opened:
        say(f"{count(opened.forget(*paths), 'file')} forgotten")


@app.command("serve")
def serve_library(
    library: LibraryOption = None,
    host: Annotated[str, typer.Option(help="The address to listen at; another than this one demands a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port to listen at; 0 takes any free one.")] = 7700,
    token: Annotated[
        str | None, typer.Option(metavar="TEXT", envvar="MMSEARCH_TOKEN", help="What clients have to know.")
    ] = None,
) -> None:
    """Serve the library to a browser and to programs, until Ctrl-C or SIGTERM."""
    from mmsearch.cli.serving import serve

    serve(library, host, port, token)


@app.command("mcp")
def serve_agent(
    library: LibraryOption = None,
    allow_index: Annotated[bool, typer.Option("--allow-index", help="Also let the agent start index runs.")] = False,
) -> None:
    """Let an agent search the library, by the Model Context Protocol over stdin and stdout."""
    with loading():
        from mmsearch.cli import serving

    serving.serve_agent(library, allow_index=allow_index)
