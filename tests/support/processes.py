"""What is known of other processes."""

from __future__ import annotations

from pathlib import Path


def has_begun(process_id: int) -> bool:
    """Return whether a child process runs its program: until then it is a copy of this one, and seems as large."""
    try:
        return Path(f"/proc/{process_id}/cmdline").read_bytes() != Path("/proc/self/cmdline").read_bytes()
    except OSError:
        return False
