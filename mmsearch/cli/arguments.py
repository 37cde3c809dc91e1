"""How the arguments of `mmsearch query` are told apart: a term may begin with a minus."""

from __future__ import annotations

import re

import typer
from typer.core import TyperCommand

_SHORT = re.compile(r"-k(?:\d+)?|-0|-h")


class QueryCommand(TyperCommand):
    """A command whose arguments may begin with a single minus, which means nothing special: `-5 °C` is a text.

    Options keep their places; what begins with one minus and isn't one of them is moved behind `--`.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # noqa: D102
        takes_value = {
            name
            for parameter in self.params
            for name in parameter.opts
            if not getattr(parameter, "is_flag", False) and name.startswith("-")
        }
        options: list[str] = []
        terms: list[str] = []
        rest = iter(args)
        for token in rest:
            if token == "--":
                terms += rest
            elif token in takes_value:
                options.append(token)
                options += [value for value in [next(rest, None)] if value is not None]
            elif token.startswith("--") or _SHORT.fullmatch(token):
                options.append(token)
            else:
                terms.append(token)
        return super().parse_args(ctx, [*options, "--", *terms])
