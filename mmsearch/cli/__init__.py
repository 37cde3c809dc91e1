"""The command line: a thin shell over `Library`.

`app` has the commands and `arguments` how those of a query are told apart; `reports` and `hits` print what a command
returns, `streams` is where they print it, and `program` turns failures into exit codes. Nothing is imported here: the
process that decodes a thumbnail needs only `thumbnails`.
"""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    from mmsearch.cli.program import main as run

    run()
