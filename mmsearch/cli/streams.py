"""The two streams of the command line: results on stdout, everything else on stderr; nothing steers a terminal."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mmsearch.printable import printable

if TYPE_CHECKING:
    from mmsearch.wire import JsonObject

HELP_MARKUP: Literal["rich"] | None = "rich" if sys.stdout is not None and sys.stdout.isatty() else None
"""Help is coloured and framed for people only: Rich takes as long to load as all the rest."""


class _Notices(logging.Handler):
    """Prints what a part of mmsearch has to tell a person (a download, an export), and when debugging what it does."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.INFO:
            warn(record.getMessage())
        else:
            note(f"{record.relativeCreated:9,.0f} ms  {record.name}: {record.getMessage()}")


class _Escaped(logging.Formatter):
    """Formats what libraries log, tracebacks included, so that no word in it can steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).splitlines()))


def prepare_streams() -> None:
    """Make both streams take any text, and keep what libraries log or warn about off the terminal."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115  None where the caller closed it
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    debugging = os.environ.get("MMSEARCH_DEBUG") == "1"
    logging.basicConfig(level=logging.DEBUG if debugging else logging.ERROR)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Escaped(logging.BASIC_FORMAT))
    notices = _Notices()
    for package in ("mmsearch", "indexer"):  # what takes long is said, once it begins
        logger = logging.getLogger(package)
        logger.addHandler(notices)
        logger.setLevel(logging.DEBUG if debugging else logging.INFO)
        logger.propagate = False
    if not debugging:
        warnings.simplefilter("ignore")


def warn(line: str) -> None:
    """Print one line to stderr."""
    sys.stderr.write(f"mmsearch: {printable(line)}\n")
    sys.stderr.flush()


def say(line: str) -> None:
    """Print one line to stdout."""
    sys.stdout.write(f"{printable(line)}\n")


def note(line: str) -> None:
    """Print one line of progress to stderr."""
    sys.stderr.write(f"{printable(line)}\n")
    sys.stderr.flush()


def show_traceback(error: BaseException) -> None:
    """Print to stderr where an error was raised."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        note(line)


def print_json(fields: JsonObject) -> None:
    """Print one object as a line."""
    sys.stdout.write(json.dumps(fields) + "\n")
