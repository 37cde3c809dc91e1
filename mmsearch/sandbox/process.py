"""One worker process, from the side of the process that starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress

from mmsearch.sandbox.channel import Channel

_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); " + (
    "from mmsearch.sandbox.worker import main; main(int(sys.argv[2]))"
)
"""Imports what the parent would, and nothing of the user's program, which may have no `__main__` guard."""
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Each worker has a core. Where memory is limited, OpenBLAS may get no second thread, and waits for it for ever."""


def _environment() -> dict[str, str]:
    """Return the environment of a worker. Ours stays as it is, and other threads may change it meanwhile."""
    found = {name: os.environ.get(name) for name in list(os.environ)}
    return {name: value for name, value in found.items() if value is not None} | _ONE_THREAD


class WorkerProcess:
    """A process that runs `worker.main`. Raises `OSError` where none can be started.

    It ends with the thread that starts it (Linux), or with the process (elsewhere).
    """

    def __init__(self) -> None:
        heard = None if os.environ.get("MMSEARCH_DEBUG") == "1" else subprocess.DEVNULL
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, json.dumps([os.fspath(folder) for folder in sys.path]), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=heard,  # decoders complain there of each broken file
            env=_environment(),
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # Ctrl-C is the parent's to answer
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.channel = Channel(self._process.stdout, self._process.stdin)
        self.tasks = 0
        """How many files it was given."""

    @property
    def id(self) -> int:
        """The number of the process."""
        return self._process.pid

    def kill(self) -> None:
        """End the process at once; any thread may ask for that."""
        with suppress(OSError):
            self._process.kill()

    def end(self) -> int:
        """End the process, wait for it and return its exit code: negative for the signal that ended it."""
        self.kill()
        code = self._process.wait()
        self.channel.close()
        return code
