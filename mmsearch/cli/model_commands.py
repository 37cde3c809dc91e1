"""`mmsearch model`: the models that a library can use."""

from __future__ import annotations

from typing import Annotated

import typer

from mmsearch.cli.streams import HELP_MARKUP, say
from mmsearch.cli.units import megabytes

model_app = typer.Typer(rich_markup_mode=HELP_MARKUP, help="The models that a library can use.")


@model_app.command("list")
def model_list() -> None:
    """List the models, with what they embed, their languages, size and licence."""
    from mmsearch.cli import reports
    from mmsearch.spaces import known_models

    reports.show_models(known_models())


@model_app.command("pull")
def model_pull(name: Annotated[str, typer.Argument(metavar="NAME", help="What --model takes.")]) -> None:
    """Download a model and make it ready, so that it needs no network from then on."""
    from mmsearch.spaces import pull_model

    for member, folder in pull_model(name):
        say(f"{member} is ready ({megabytes(folder)})")


@model_app.command("export")
def model_export(name: Annotated[str, typer.Argument(metavar="NAME", help="What --model takes.")]) -> None:
    """Print the folders that a model's spaces run from; copied to another machine, --model takes them there."""
    from mmsearch.spaces import pull_model

    for _, folder in pull_model(name):
        say(str(folder))
