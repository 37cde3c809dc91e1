"""Keeps one worker process alive, gives it files, and says what became of each."""

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
"""A worker is replaced after so many files, in case a decoder leaks."""
_START_S = 120.0
"""How long a worker may take to start, and to take a model."""
_STARTS = 3
"""How often in a row a worker may fail to start before its file is given back."""
_OUTSIDE = {-int(getattr(signal, name, 0)) for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")}
"""Exit codes of a process that another one ended: no decoder sends itself these signals."""

_log = logging.getLogger(__name__)


class SandboxError(MMSearchError):
    """No decoding process can be kept alive, which is no file's fault."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model and the limits ask of decoding, as a worker takes it."""

    pickled: bytes
    limits: Limits

    @classmethod
    def of(cls, front_ends: FrontEnds, limits: Limits) -> Needs:
        """Pack them for workers."""
        return cls(pickle.dumps((dict(front_ends), limits), pickle.HIGHEST_PROTOCOL), limits)


@dataclass(frozen=True, slots=True)
class Job:
    """A file to decode, for which model, and how long that may take."""

    request: Request
    needs: Needs
    timeout_s: float


class Keeper:
    """One worker process, which is replaced when it dies.

    All of it is called by one thread, with which the process ends; only `close` may be called by any.
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
        """The number of the process, if there is one."""
        process = self._process
        return process.id if process is not None else None

    def close(self) -> None:
        """End the process at once, whatever it is doing, and start no other."""
        self._closed = True
        if (process := self._process) is not None:
            process.kill()

    def warm(self, modality: Modality | None) -> None:
        """Start the process and have it load what decodes this kind of file, without waiting for it."""
        with suppress(OSError, EOFError, BudgetClosedError):  # the first file will say what prevents it
            self._start()
            if modality is not None and self._process is not None:
                self._process.channel.send(Load(modality))

    def end(self) -> int:
        """End the process, if there is one, and return its exit code."""
        process, self._process = self._process, None
        return process.end() if process is not None else 0

    def decode(self, job: Job) -> PreparedContent:
        """Return what is in a file.

        A file whose decoder runs out of its share of memory, crashes or is killed from outside is tried once more,
        alone and with all the memory there is. Raises `ReadError`, `MediaError`, `SandboxError`, `BudgetClosedError`.
        """
        with self._budget.part(self._share_bytes) as part:
            for is_last in (False, True):
                try:
                    content = self._try(job, part)
                except EOFError:
                    code = self.end()
                    _log.debug("a worker ended with %d at %r", code, job.request.path)
                    by_itself = code not in _OUTSIDE
                    if is_last or (by_itself and part.is_whole):
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
        """Decode a file with a part of the memory; None where that doesn't suffice. Raises `EOFError`."""
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
                    raise AssertionError(f"a worker doesn't say {answer!r}")

    def _ready_for(self, needs: Needs) -> WorkerProcess:
        """Return the process, started and with the model taken. Raises `SandboxError`."""
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
        """Return the process, started if there is none. Raises `OSError`, `BudgetClosedError`."""
        if self._process is None:
            self._taken = None
            self._process = WorkerProcess()
        if self._closed:
            self.end()
            raise BudgetClosedError
        return self._process

    def _await_ready(self, process: WorkerProcess) -> None:
        """Wait until the process has taken its model. Raises `EOFError`, `SandboxError`."""
        with self._watch.within(_START_S, process.kill):
            answer = process.channel.receive()
        if isinstance(answer, Failed):
            raise SandboxError(f"the model can't be used for decoding: {answer.reason}")


def _reason(code: int) -> str:
    """Return in words why a process ended that was to decode a file."""
    if code in _OUTSIDE:
        return "the decoder was killed, most likely for want of memory; free some and use --retry"
    ended = f"exit code {code}"
    with suppress(ValueError):
        ended = signal.Signals(-code).name if code < 0 else ended
    return f"the decoder crashed ({ended}); the file is damaged or hostile"
