"""Draw `docs/terminal.svg`: what a terminal shows for some queries over `data/samples`. Needs a Unix terminal.

python docs/make_terminal.py
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
COLUMNS, LINES = 92, 24
COMMANDS = [
    "mmsearch query sounds/rooster.mp3 --in video -k 1",
    "mmsearch query 'un tigre dans la neige' --in image -k 2",
    "mmsearch query wedding --in image -k 1",
]
"""A sound finds the moment of a video, French words a photo, and what isn't there is said not to be there."""


def shown(command: str, environment: dict[str, str]) -> str:
    """Return what a command writes to a terminal, colours included."""
    reader, terminal = pty.openpty()
    shell = f"stty cols {COLUMNS} rows {LINES}; {command.replace('mmsearch', f'{sys.executable} -m mmsearch', 1)}"
    process = subprocess.Popen(
        ["bash", "-c", shell],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=ROOT / "data" / "samples",
        env=environment,
    )
    os.close(terminal)
    output = b""
    while True:
        try:
            block = os.read(reader, 65_536)
        except OSError:  # how Linux says that nobody writes to it any more
            block = b""
        if not block:
            break
        output += block
    process.wait()
    os.close(reader)
    return output.decode().replace("\r\n", "\n")


def main() -> None:
    """Index the samples, ask, and draw the terminal."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MMSEARCH_LIBRARY": folder, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
        environment.pop("TERM_PROGRAM", None)
        index = [sys.executable, "-m", "mmsearch", "index", str(ROOT / "data" / "samples"), "--exclude", "CREDITS.md"]
        subprocess.run([*index, "--model", "mini"], check=True, env=environment, capture_output=True)
        with Path(os.devnull).open("w") as nowhere:
            console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
            for number, command in enumerate(COMMANDS):
                console.print(Text.assemble("\n" if number else "", ("$ ", "bold green"), (command, "bold")))
                console.print(Text.from_ansi(shown(command, environment).rstrip("\n")))
            drawing = console.export_svg(title="mmsearch", unique_id="mmsearch")
    # The font of the reader's own terminal, instead of one from the network.
    drawing = re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL).replace("Fira Code", "ui-monospace")
    (ROOT / "docs" / "terminal.svg").write_text(drawing.rstrip() + "\n", "utf-8")


if __name__ == "__main__":
    main()
