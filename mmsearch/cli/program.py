"""The program: a command runs, and whatever goes wrong becomes one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import typer

from mmsearch.cli import config
from mmsearch.cli.app import app
from mmsearch.cli.streams import prepare_streams, show_traceback, warn
from mmsearch.cli.suggestions import with_suggestion
from mmsearch.errors import MMSearchError, why

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line: exit codes 0, 1 (`query` found nothing), 2 (any failure), 130 (Ctrl-C)."""
    prepare_streams()
    code = _run()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it has gone
            stream.flush()
    # Everything is closed and written; taking FAISS and onnxruntime down again would cost a query 0.15 s more.
    os._exit(code)


def _run() -> int:
    """Run a command and return its exit code; whatever goes wrong is one line on stderr."""
    try:
        code = app(prog_name="mmsearch", standalone_mode=False, default_map=config.defaults(app))
        sys.stdout.flush()
    except BrokenPipeError:
        return _unread()
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except MMSearchError as error:
        return _failed(error, str(error))
    except SystemExit as leave:
        return _left(leave)
    except MemoryError as error:
        return _failed(error, "the memory is used up; close other programs, or use --workers 1 or a smaller --batch")
    except OSError as error:
        named = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return _failed(error, named + why(error))
    except Exception as error:
        unexpected = f"unexpected {type(error).__name__}: {error}; MMSEARCH_DEBUG=1 shows where"
        return _failed(error, _usage_error(error) or unexpected)
    return code if isinstance(code, int) else 0


def _unread() -> int:
    """Whoever read stdout has enough of it: what Python would still flush goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _left(leave: SystemExit) -> int:
    """Return the exit code for a `SystemExit`. A library's own code 1 would mean that nothing was found."""
    if isinstance(leave.__context__, BrokenPipeError):  # how typer answers one
        return _unread()
    if leave.code is None or leave.code == 0:
        return 0
    said = leave.code if isinstance(leave.code, str) else f"a library ended the program with exit code {leave.code}"
    return _failed(leave, said)


def _usage_error(error: Exception) -> str | None:
    """Return one line for a wrong call, None for any other error; typer's usage errors share no public base class."""
    said = getattr(error, "format_message", None)
    if said is None:
        return None
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mmsearch"
    words = with_suggestion(said().replace("Value error, ", "").rstrip("."))
    return f"{words or 'a command is missing'}; see '{command} --help'"


def _failed(error: BaseException, message: str) -> int:
    with suppress(OSError):  # nobody reads stderr
        if os.environ.get("MMSEARCH_DEBUG") == "1":
            show_traceback(error)
        warn(message)
    return 2
