"""The user's defaults, from a TOML file: read before `MMSEARCH_*` variables, and long before options.

    library = "~/photos.mmsearch"     # for every command that has such an option

    [query]
    k = 20
    in = ["image", "video"]
    rerank = false

The file is `config.toml` in the platform's folder for settings, or what `$MMSEARCH_CONFIG` names. A key is the name of
a command's long option without its dashes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from mmsearch.cli.suggestions import nearest
from mmsearch.errors import UsageError, one_line, why
from mmsearch.paths import expand

_MOST_BYTES = 2**20

Defaults = dict[str, Any]
"""Values by the names of parameters, and in groups and commands by their names."""


def config_file() -> Path:
    """Return where the user's defaults are looked for."""
    if named := os.environ.get("MMSEARCH_CONFIG"):
        return expand(named)
    import platformdirs

    return platformdirs.user_config_path("mmsearch", appauthor=False) / "config.toml"


def defaults(app: typer.Typer) -> Defaults | None:
    """Return what the file says, as the command line's parser takes it; None where there is no file.

    Raises `UsageError` naming the file, for one that can't be read or that sets what no command has.
    """
    file = config_file()
    try:
        content = file.read_bytes() if file.stat().st_size <= _MOST_BYTES else b"\xff"
    except FileNotFoundError:
        if "MMSEARCH_CONFIG" in os.environ:
            raise UsageError(f"{file} isn't there; MMSEARCH_CONFIG names it, so make it or unset that") from None
        return None
    except OSError as error:
        raise UsageError(f"{file} can't be read: {why(error)}") from None
    import tomllib  # only for who has such a file

    try:
        fields = tomllib.loads(content.decode("utf-8"))
    except ValueError as error:
        raise UsageError(f"{file} is no TOML ({one_line(error)}); mend it") from None
    root = typer.main.get_command(app)
    return _translated(fields, root, file, "")


def _translated(fields: Mapping[str, Any], group: Any, file: Path, path: str) -> Defaults:  # noqa: ANN401
    """Return the values of each command of a group: its own, and those for every command that has such an option."""
    common = {key: value for key, value in fields.items() if key not in group.commands}
    for name, value in common.items():
        if isinstance(value, Mapping):
            raise UsageError(f"{file}: there is no command {path}{name}{_question(name, group.commands)}")
    unused, found = set(common), Defaults()
    for name, command in group.commands.items():
        own = fields.get(name, {})
        if not isinstance(own, Mapping):
            raise UsageError(f"{file}: {path}{name} is a command, so write [{path}{name}] and options below it")
        if hasattr(command, "commands"):
            found[name] = _translated(own, command, file, f"{path}{name}.")
            continue
        options = dict(_options(command))
        for key in own:
            if key not in options:
                raise UsageError(f"{file}: [{path}{name}] has no option {key!r}{_question(key, options)}")
        values = {**{key: value for key, value in common.items() if key in options}, **own}
        found[name] = {options[key].name: _as_option(options[key], value) for key, value in values.items()}
        unused -= options.keys()
    for key in sorted(unused):
        known = [option for command in group.commands.values() for option, _ in _options(command)]
        raise UsageError(f"{file}: no command has the option {key!r}{_question(key, known)}")
    return found


def _options(command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Yield the names of a command's options without their dashes, and the parameters behind them."""
    for parameter in command.params:
        if parameter.param_type_name == "option" and "--help" not in parameter.opts:
            for option in parameter.opts:
                yield option.lstrip("-"), parameter


def _question(key: str, known: Iterable[str]) -> str:
    near = nearest(key, list(known))
    return f"; did you mean {near!r}?" if near else ""


def _as_option(parameter: Any, value: Any) -> Any:  # noqa: ANN401
    """Return a value as an option takes it: a list where it may be repeated, and a path with its `~` replaced."""
    if isinstance(value, str) and value.startswith("~"):
        value = str(expand(value))
    return [value] if getattr(parameter, "multiple", False) and not isinstance(value, list) else value
