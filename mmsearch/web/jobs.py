"""Index runs that a client starts: one at a time, in a thread of its own, with progress for whoever watches."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mmsearch import wire
from mmsearch.errors import LockedError, MMSearchError, why

if TYPE_CHECKING:
    from mmsearch.types import Progress
    from mmsearch.web.ports import ServedLibrary

_log = logging.getLogger(__name__)
_KEPT = 20
"""How many jobs are remembered."""


@dataclass(frozen=True, slots=True)
class IndexJob:
    """One index run. `state` is "running", "done", "stopped" or "failed"; `version` grows with every change."""

    id: int
    state: str = "running"
    version: int = 0
    done: int = 0
    total: int = 0
    failed: int = 0
    file: str | None = None
    started_at: float = field(default_factory=time.time)
    report: wire.JsonObject | None = None
    error: str | None = None

    def as_json(self) -> wire.JsonObject:
        """Return what a client is told."""
        return {
            "id": self.id,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "failed": self.failed,
            "file": self.file,
            "report": self.report,
            "error": self.error,
        }


class IndexJobs:
    """Starts index runs over a library and remembers what became of them."""

    def __init__(self, library: ServedLibrary) -> None:
        self._library = library
        self._guard = threading.Lock()
        self._jobs: dict[int, IndexJob] = {}
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self, *, prune: bool = False, retry: bool = False) -> IndexJob:
        """Bring the library to what its folders hold. Raises `LockedError` while a job is running."""
        with self._guard:
            if self._thread is not None and self._thread.is_alive():
                raise LockedError("an index run is under way; watch it, or wait until it ends")
            job = IndexJob(max(self._jobs, default=0) + 1)
            self._jobs[job.id] = job
            for old in sorted(self._jobs)[:-_KEPT]:
                del self._jobs[old]
            self._stop = threading.Event()
            arguments = (job.id, self._stop, prune, retry)
            self._thread = threading.Thread(target=self._run, args=arguments, name="indexing", daemon=True)
            self._thread.start()
        return job

    def get(self, number: int) -> IndexJob | None:
        """Return a job as it stands now, None where there is none of this number."""
        with self._guard:
            return self._jobs.get(number)

    def latest(self) -> IndexJob | None:
        """Return the newest job, None before the first."""
        with self._guard:
            return self._jobs[max(self._jobs)] if self._jobs else None

    def stop(self) -> None:
        """Ask the run under way for an early end: what is ready is committed."""
        self._stop.set()

    def close(self) -> None:
        """End the run under way and wait for it."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self, number: int, stop: threading.Event, prune: bool, retry: bool) -> None:
        def tell(progress: Progress) -> None:
            file = None if progress.under_way is None else str(progress.under_way)
            self._change(number, done=progress.done, total=progress.total, failed=progress.failed, file=file)

        try:
            report = self._library.index(prune=prune, retry=retry, progress=tell, stop=stop)
        except MMSearchError as error:
            self._change(number, state="failed", error=str(error))
        except OSError as error:
            self._change(number, state="failed", error=why(error))
        except Exception as error:  # a thread has nobody else to tell
            _log.error("an index run failed", exc_info=error)
            self._change(number, state="failed", error=f"unexpected {type(error).__name__}; the server's log says more")
        else:
            state = "stopped" if report.interrupted else "done"
            self._change(number, state=state, report=wire.from_index_report(report), file=None)

    def _change(self, number: int, **fields: object) -> None:
        with self._guard:
            if (job := self._jobs.get(number)) is not None:
                changed: IndexJob = replace(job, version=job.version + 1, **fields)  # type: ignore[arg-type]
                self._jobs[number] = changed
