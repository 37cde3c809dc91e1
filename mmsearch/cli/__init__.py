"""The command line: a thin shell over `Library`.

`app` has the commands and `arguments` how those of a query are told apart; `reports` and `hits` print what a command
returns, `streams` is where they print it, and `program` turns failures into exit codes.
"""

from mmsearch.cli.program import main

__all__ = ["main"]
