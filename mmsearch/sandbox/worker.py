"""What runs in a worker process: it decodes one file after the other, within limits, and ends with its parent."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import BinaryIO

from mmsearch import memory
from mmsearch.errors import MediaError, MMSearchError, ReadError, one_line
from mmsearch.sandbox.channel import Channel, Done, Failed, Granted, Load, Model, Ready, Short, Task, Wanted
from mmsearch.sandbox.work import Work, load_decoders, undecodable

_PR_SET_PDEATHSIG = 1


def main(parent: int) -> None:
    """Serve the process that started this one, whose number is `parent`, until it ends or closes the channel."""
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    _Server(Channel(*_take_streams())).serve()


def _end_with(parent: int) -> None:
    """Have the system end this process with its parent, where it can; elsewhere the end of the channel does."""
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if os.getppid() != parent:  # it ended before it was told
            os._exit(0)


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return the streams of the channel; what a decoder prints from now on goes nowhere."""
    reading = os.fdopen(os.dup(0), "rb")
    writing = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return reading, writing


class _Server:
    """Answers the messages of the parent."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._inbox: SimpleQueue[object] = SimpleQueue()
        self._work: Work | None = None

    def serve(self) -> None:
        # A thread of its own reads, so that the parent's end is noticed while a file is being decoded.
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            match self._inbox.get():
                case Model(pickled):
                    self._take(pickled)
                case Load(modality):
                    load_decoders(modality)
                case Task() as task:
                    self._do(task)

    def _listen(self) -> None:
        try:
            while True:
                self._inbox.put(self._channel.receive())
        finally:
            os._exit(0)

    def _take(self, pickled: bytes) -> None:
        try:
            self._work = Work(*pickle.loads(pickled))
        except MMSearchError as error:
            self._channel.send(Failed(str(error)))
        except Exception as error:  # it is told to the parent, whose model it is
            self._channel.send(Failed(f"{type(error).__name__}: {one_line(error)}"))
        else:
            self._channel.send(Ready())

    def _do(self, task: Task) -> None:
        assert self._work is not None
        idle_bytes = _data_bytes()
        _limit_data(idle_bytes + task.share_bytes)

        def lend(needed_bytes: int) -> None:
            self._channel.send(Wanted(needed_bytes))
            assert isinstance(self._inbox.get(), Granted)
            _limit_data(idle_bytes + needed_bytes)

        memory.set_share(task.share_bytes, task.most_bytes, lend)
        try:
            answer: object = Done(self._work.prepare(task.request))
        except ReadError as error:
            answer = Failed(str(error), by_reading=True)
        except MediaError as error:
            answer = Short() if memory.is_short(error) else Failed(str(error))
        except MemoryError:
            answer = Short()
        except Exception as error:  # whatever a decoder raises on a hostile file is that file's failure
            answer = Short() if memory.is_short(error) else Failed(undecodable(error))
        _limit_data(None)
        if isinstance(answer, Short):
            gc.collect()  # the next try is to begin with what it is promised
        self._channel.send(answer)


def _data_bytes() -> int:
    """Return how much memory of its own this process has mapped."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  read once a task
            return int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _IDLE_BYTES


_IDLE_BYTES = 2**28
"""What a worker maps before it decodes anything, where the system doesn't say it."""


def _limit_data(most_bytes: int | None) -> None:
    """Let this process map so much memory of its own, None for as much as it may have."""
    if sys.platform == "win32":
        return
    import resource

    # Linux counts what a process can write to by itself; elsewhere only the address space can be limited.
    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    with suppress(ValueError, OSError):  # macOS knows the limit and refuses to set it
        _, hard = resource.getrlimit(kind)
        bound = hard if most_bytes is None else most_bytes
        resource.setrlimit(kind, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))
