"""Starts and ends one worker process."""

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
"""Code of a worker: it uses the parent's import path, but doesn't import the user's program, which may have no
`__main__` guard."""
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Workers share the cores. Also, where memory is limited, OpenBLAS may fail to start a second thread and then wait for
it for ever."""


def _environment() -> dict[str, str]:
    """Return the environment of a worker. Other threads may change `os.environ` meanwhile, so it is copied by name."""
    values = {name: os.environ.get(name) for name in list(os.environ)}
    return {name: value for name, value in values.items() if value is not None} | _ONE_THREAD


class WorkerProcess:
    """A process that runs `worker.main`. The constructor raises `OSError` if it can't be started.

    It ends with the thread that started it (Linux) or with this process (elsewhere).
    """

    def __init__(self) -> None:
        stderr = None if os.environ.get("MMSEARCH_DEBUG") == "1" else subprocess.DEVNULL
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, json.dumps([os.fspath(folder) for folder in sys.path]), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,  # decoders print complaints about each broken file
            env=_environment(),
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # only the parent handles Ctrl-C
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.channel = Channel(self._process.stdout, self._process.stdin)
        self.tasks = 0
        """Number of files that it was given."""

    @property
    def id(self) -> int:
        """The process id."""
        return self._process.pid

    def kill(self) -> None:
        """End the process at once. Any thread may call this."""
        with suppress(OSError):
            self._process.kill()

    def end(self) -> int:
        """End the process, wait for it and return its exit code, which is the negative number of a fatal signal."""
        self.kill()
        code = self._process.wait()
        self.channel.close()
        return code
