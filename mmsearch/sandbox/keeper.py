"""Keeps one worker process alive, passes files to it, and returns the results."""

from __future__ import annotations

import logging
import pickle
import signal
import time
from contextlib import suppress
from dataclasses import dataclass

from mmsearch.errors import MediaError, MMSearchError, ReadError
from mmsearch.sandbox.budget import Budget, BudgetClosedError, Part
from mmsearch.sandbox.channel import Done, Failed, Granted, Load, Model, Short, Task, Wanted
from mmsearch.sandbox.process import WorkerProcess
from mmsearch.sandbox.watch import Watch
from mmsearch.sandbox.work import FrontEnds, PreparedContent, Request
from mmsearch.settings import Limits
from mmsearch.types import Modality

_TASKS_PER_WORKER = 5_000
"""A worker is replaced after this many files, in case a decoder leaks memory."""
_START_S = 120.0
"""Longest time in which a worker starts and loads a model."""
_STARTS = 3
"""Number of attempts to start a worker before a file is given up."""
_KILLED = {-int(getattr(signal, name, 0)) for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")}
"""Exit codes of a process that another process ended: no decoder sends itself these signals."""

_log = logging.getLogger(__name__)


class SandboxError(MMSearchError):
    """No decoding process can be kept alive; no file is to blame."""


@dataclass(frozen=True, slots=True)
class Needs:
    """The front ends of a model and the limits of decoding, pickled for workers."""

    pickled: bytes
    limits: Limits

    @classmethod
    def of(cls, front_ends: FrontEnds, limits: Limits) -> Needs:
        """Pickle front ends and limits."""
        return cls(pickle.dumps((dict(front_ends), limits), pickle.HIGHEST_PROTOCOL), limits)


@dataclass(frozen=True, slots=True)
class Job:
    """A file to decode, the needs of the model that it is for, and the time limit."""

    request: Request
    needs: Needs
    timeout_s: float


class Keeper:
    """One worker process, which is replaced when it dies.

    One thread calls all methods except `close`, which any thread may call; the process ends with that one thread.
    """

    def __init__(self, budget: Budget, share_bytes: int, watch: Watch) -> None:
        self._budget = budget
        self._share_bytes = share_bytes
        self._watch = watch
        self._process: WorkerProcess | None = None
        self._taken: bytes | None = None
        self._closed = False

    @property
    def process_id(self) -> int | None:
        """The process id, None if no process runs."""
        process = self._process
        return process.id if process is not None else None

    def close(self) -> None:
        """End the process at once, even while it decodes, and start no other."""
        self._closed = True
        if (process := self._process) is not None:
            process.kill()

    def warm(self, modality: Modality | None) -> None:
        """Start the process and let it load the decoders of a modality, without waiting for it."""
        with suppress(OSError, EOFError, BudgetClosedError):  # decoding the first file will report the cause
            self._start()
            if modality is not None and self._process is not None:
                self._process.channel.send(Load(modality))

    def end(self) -> int:
        """End the process, if there is one, and return its exit code."""
        process, self._process = self._process, None
        return process.end() if process is not None else 0

    def decode(self, job: Job) -> PreparedContent:
        """Decode a file and return its content.

        If the decoder runs out of its share of memory, crashes or is killed from outside, the file is tried once more,
        alone and with the whole budget. Raises `ReadError`, `MediaError`, `SandboxError`, `BudgetClosedError`.
        """
        with self._budget.part(self._share_bytes) as part:
            for is_last in (False, True):
                try:
                    content = self._try(job, part)
                except EOFError:
                    code = self.end()
                    _log.debug("a worker ended with %d at %r", code, job.request.path)
                    crashed = code not in _KILLED
                    if is_last or (crashed and part.is_whole):
                        raise MediaError(_reason(code)) from None
                else:
                    if content is not None:
                        return content
                    if part.is_whole:
                        raise MediaError(
                            f"decoding needs more than {self._budget.total_bytes / 1e9:.1f} GB of memory; "
                            "save the file smaller"
                        )
                part.resize(self._budget.total_bytes)
        raise AssertionError("the second try is the last")

    def _try(self, job: Job, part: Part) -> PreparedContent | None:
        """Decode a file with a part of the memory; return None if that isn't enough. Raises `EOFError`."""
        process = self._ready_for(job.needs)
        process.tasks += 1
        process.channel.send(Task(job.request, part.bytes, self._budget.total_bytes))
        left_s = job.timeout_s
        while True:
            began = time.monotonic()
            with self._watch.within(left_s, process.kill) as deadline:
                try:
                    answer = process.channel.receive()
                except EOFError:
                    if not deadline.passed:
                        raise
                    self.end()
                    raise MediaError(
                        f"decoding took more than {job.timeout_s:.0f} s; convert or shorten the file"
                    ) from None
            left_s -= time.monotonic() - began
            match answer:
                case Done(content):
                    return content
                case Short():
                    return None
                case Failed(reason, by_reading):
                    raise (ReadError if by_reading else MediaError)(reason)
                case Wanted(needed_bytes):
                    part.resize(needed_bytes)
                    process.channel.send(Granted())
                case _:
                    raise AssertionError(f"a worker never sends {answer!r}")

    def _ready_for(self, needs: Needs) -> WorkerProcess:
        """Return the process, started and with the model loaded. Raises `SandboxError`."""
        if self._process is not None and self._process.tasks >= _TASKS_PER_WORKER:
            self.end()
        reason = ""
        for _ in range(_STARTS):
            try:
                process = self._start()
                if self._taken != needs.pickled:
                    self._taken = None
                    process.channel.send(Model(needs.pickled))
                    self._await_ready(process)
                    self._taken = needs.pickled
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
            except EOFError:
                reason = f"they end at once, with exit code {self.end()}"
            else:
                return process
        raise SandboxError(
            f"the decoding processes can't be kept alive ({reason}); free some memory, or use --workers 1"
        )

    def _start(self) -> WorkerProcess:
        """Return the process; start it if there is none. Raises `OSError`, `BudgetClosedError`."""
        if self._process is None:
            self._taken = None
            self._process = WorkerProcess()
        if self._closed:
            self.end()
            raise BudgetClosedError
        return self._process

    def _await_ready(self, process: WorkerProcess) -> None:
        """Wait until the process has loaded its model. Raises `EOFError`, `SandboxError`."""
        with self._watch.within(_START_S, process.kill):
            answer = process.channel.receive()
        if isinstance(answer, Failed):
            raise SandboxError(f"the model can't be used for decoding: {answer.reason}")


def _reason(code: int) -> str:
    """Return a message for the exit code of a process that ended while it decoded a file."""
    if code in _KILLED:
        return "the decoder was killed, most likely because memory ran out; free some and use --retry"
    ended = f"exit code {code}"
    with suppress(ValueError):
        ended = signal.Signals(-code).name if code < 0 else ended
    return f"the decoder crashed ({ended}); the file is damaged or hostile"
