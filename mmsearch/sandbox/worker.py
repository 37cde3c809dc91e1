"""The main loop of a worker process: it decodes files one by one, within limits, and ends with its parent."""

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
    """Serve the parent process, whose id is `parent`, until it ends or closes the channel."""
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the parent handles Ctrl-C
    _Server(Channel(*_take_streams())).serve()


def _end_with(parent: int) -> None:
    """Let Linux end this process with its parent; elsewhere, it ends when the channel closes."""
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if os.getppid() != parent:  # the parent ended before prctl took effect
            os._exit(0)


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return the streams of the channel, and redirect standard input and output to nowhere: decoders print to it."""
    reading = os.fdopen(os.dup(0), "rb")
    writing = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return reading, writing


class _Server:
    """Answers the messages of the parent."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._inbox: SimpleQueue[object] = SimpleQueue()
        self._work: Work | None = None

    def serve(self) -> None:
        # Messages are read in a separate thread, which notices the parent's end even while a file is decoded.
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
        except Exception as error:  # the parent reports it
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
            gc.collect()  # so that the next try has its full share
        self._channel.send(answer)


def _data_bytes() -> int:
    """Return the size of this process's private memory."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  read once a task
            return int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _IDLE_BYTES


_IDLE_BYTES = 2**28
"""Assumed private memory of an idle worker on systems that don't report it."""


def _limit_data(max_bytes: int | None) -> None:
    """Limit this process's private memory; None removes the limit."""
    if sys.platform == "win32":
        return
    import resource

    # Linux can limit private writable memory; other systems only the address space.
    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    with suppress(ValueError, OSError):  # macOS has the limit but refuses to set it
        _, hard = resource.getrlimit(kind)
        bound = hard if max_bytes is None else max_bytes
        resource.setrlimit(kind, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))
