"""Where a scan may go: which links to folders it follows, and which file systems hold no media.

A folder of media may come from anyone, and a link in it may lead to `/`. A link is followed to an album on another
disk, but not up: to a folder that holds what is indexed, the user's home or the library. Nor does a scan enter the file
systems by which a kernel shows its own state: `/proc` holds files without end, and every folder of the machine again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mmsearch.errors import one_line

_SEPARATOR = os.fsencode(os.sep)
_SYSTEM = (b"/proc", b"/sys", b"/dev", b"/run")
"""Folders of a system's own state. Disks that a desktop mounts below `/run/media` are devices of their own."""
_MOUNTS = Path("/proc/self/mountinfo")
_MOUNT = re.compile(rb"\S+ \S+ (?P<major>\d+):(?P<minor>\d+) .*? - (?P<kind>\S+) ")
_KERNEL = frozenset(
    b"autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devfs devpts devtmpfs efivarfs fusectl mqueue nsfs proc"
    b" procfs pstore rpc_pipefs securityfs selinuxfs sysfs tracefs fuse.gvfsd-fuse fuse.portal fuse.lxcfs".split()
)
"""File systems without files of a user's, by the names that Linux and the BSDs have for them."""

Identity = tuple[int, int]
"""The device and the number of a file or folder: the same by whatever name it is reached."""


def identity(status: os.stat_result) -> Identity:
    """Return what a file or folder is, whatever its name."""
    return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class Top:
    """A folder that a walk begins at: a root of the run, or what a followed link leads to.

    `root` is the root it belongs to, `path` its name there and `device` the device it is on. `above` are the folders
    that hold it or a link on the way to it: none of them can be a folder below it, unless it is mounted there again.
    """

    root: bytes
    path: bytes
    device: int
    above: frozenset[Identity]


@dataclass(frozen=True, slots=True)
class Links:
    """Decides which folders and files a run's walks take in. Paths are real ones."""

    roots: tuple[bytes, ...]
    guarded: frozenset[Identity]
    """The user's home, and the folders that hold it or a root."""
    library: bytes | None
    kernel: frozenset[int]
    """Devices that are file systems of the kernel's own state."""
    system: frozenset[int]
    """The same, and the devices of the folders in which a system keeps its state: most often in memory."""

    @classmethod
    def of(cls, roots: Iterable[bytes], library: Path | None) -> Links:
        """Return the rules for a run over these roots; `library` is the library's own folder."""
        real = tuple(os.path.realpath(root) for root in roots)
        home = os.path.realpath(os.path.expanduser(b"~"))  # noqa: PTH111  paths are bytes here
        guarded = frozenset().union(_parents(home), _itself(home), *map(_parents, real))
        own = os.path.realpath(os.fsencode(library)) if library is not None else None
        kernel = _mounted()
        return cls(real, guarded, own, kernel, kernel | _apart(_SYSTEM))

    def top(self, root: bytes) -> Top:
        """Return a root as the beginning of a walk. Raises `OSError`."""
        return Top(root, root, os.stat(root).st_dev, _parents(os.path.realpath(root)))  # noqa: PTH116

    def follow(self, link: bytes, parent: Top) -> Top | str:
        """Return what a link to a folder leads to as the beginning of a walk, or in words why it isn't followed.

        Raises `OSError`.
        """
        target = os.path.realpath(link)
        status = os.stat(target)  # noqa: PTH116
        within = any(_is_below(target, root) for root in self.roots)
        if status.st_dev in self.kernel or (not within and _is_state(target, status)):
            refused = "that is the system's own state; remove the link"
        elif self.library is not None and self.library not in self.roots and _is_below(target, self.library):
            refused = "that is the library's own folder; remove the link"
        elif not within and identity(status) in self.guarded | parent.above:
            refused = "that holds the folder it stands in, or your home; name a folder as a PATH to take it in"
        else:
            return Top(parent.root, link, status.st_dev, parent.above | _parents(target))
        return f"a link to {one_line(os.fsdecode(target), 80)} isn't followed: {refused}"

    def is_above(self, status: os.stat_result, top: Top) -> bool:
        """Return whether a folder that was met below a top is one that holds it: mounted there a second time."""
        return identity(status) in top.above

    def is_state(self, status: os.stat_result, top: Top) -> bool:
        """Return whether a folder that was met below a top is another file system, of the system's own state."""
        return status.st_dev != top.device and status.st_dev in self.system


def _is_state(target: bytes, status: os.stat_result) -> bool:
    """Return whether a folder is on the same device as the folder of the system's state that it lies in."""
    above = next((folder for folder in _SYSTEM if _is_below(target, folder)), None)
    return above is not None and status.st_dev == os.stat(above).st_dev  # noqa: PTH116


def _apart(folders: Iterable[bytes]) -> frozenset[int]:
    """Return the devices of folders that aren't on the device of the root folder."""
    found: set[int] = set()
    for folder in folders:
        with suppress(OSError):
            found.add(os.stat(folder).st_dev)  # noqa: PTH116
    return frozenset(found - {os.stat(_SEPARATOR).st_dev})  # noqa: PTH116


def _mounted() -> frozenset[int]:
    """Return the devices that Linux has mounted as file systems of its own; none where there is no such list."""
    found: set[int] = set()
    with suppress(OSError):
        for line in _MOUNTS.read_bytes().splitlines():
            if (mount := _MOUNT.match(line)) and mount["kind"] in _KERNEL:
                found.add(os.makedev(int(mount["major"]), int(mount["minor"])))
    return frozenset(found)


def _is_below(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(_SEPARATOR) + _SEPARATOR)


def _parents(path: bytes) -> frozenset[Identity]:
    """Return the folders that hold a real path."""
    found: set[Identity] = set()
    while (above := os.path.dirname(path)) != path:  # noqa: PTH120
        path = above
        found |= _itself(path)
    return frozenset(found)


def _itself(path: bytes) -> frozenset[Identity]:
    try:
        return frozenset({identity(os.stat(path))})  # noqa: PTH116
    except OSError:
        return frozenset()
