"""Decides which links a scan follows and which file systems it doesn't enter.

A folder of media may come from anyone, and a link in it may lead to `/`. A scan follows a link to an album on another
disk, but not to a folder that contains the indexed folder, the user's home or the library. It doesn't enter the file
systems that show a kernel's state either: `/proc` has countless files, and contains every folder of the machine again.
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
"""Folders of system state. Disks that a desktop mounts below `/run/media` are separate devices."""
_MOUNTS = Path("/proc/self/mountinfo")
_MOUNT = re.compile(rb"\S+ \S+ (?P<major>\d+):(?P<minor>\d+) .*? - (?P<kind>\S+) ")
_KERNEL = frozenset(
    b"autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devfs devpts devtmpfs efivarfs fusectl mqueue nsfs proc"
    b" procfs pstore rpc_pipefs securityfs selinuxfs sysfs tracefs fuse.gvfsd-fuse fuse.portal fuse.lxcfs".split()
)
"""File systems without user files, by their names on Linux and the BSDs."""

Identity = tuple[int, int]
"""Device and inode number of a file or folder, which are the same under each of its names."""


def identity(status: os.stat_result) -> Identity:
    """Return the identity of a file or folder, which doesn't depend on its name."""
    return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class Top:
    """A folder where a walk begins: a root of the run, or the target of a followed link.

    `root` is the root it belongs to, `path` its name there and `device` its device. `above` are the folders that
    contain it or a link on the way to it; a folder below it is one of them only if it is mounted there a second time.
    """

    root: bytes
    path: bytes
    device: int
    above: frozenset[Identity]


@dataclass(frozen=True, slots=True)
class Links:
    """Decides which folders and links the walks of a run enter. All paths are real paths."""

    roots: tuple[bytes, ...]
    guarded: frozenset[Identity]
    """The user's home, and the folders that contain it or a root."""
    library: bytes | None
    kernel: frozenset[int]
    """Devices of file systems that show the kernel's state."""
    system: frozenset[int]
    """`kernel`, and the devices of the folders of system state, which are most often in memory."""

    @classmethod
    def of(cls, roots: Iterable[bytes], library: Path | None) -> Links:
        """Return the rules for a run over these roots; `library` is the library's own folder."""
        real = tuple(os.path.realpath(root) for root in roots)
        home = os.path.realpath(os.path.expanduser(b"~"))  # noqa: PTH111  paths are bytes here
        guarded = frozenset().union(_parents(home), _itself(home), *map(_parents, real))
        library_path = os.path.realpath(os.fsencode(library)) if library is not None else None
        kernel = _kernel_devices()
        return cls(real, guarded, library_path, kernel, kernel | _separate_devices(_SYSTEM))

    def top(self, root: bytes) -> Top:
        """Return the top of a root's walk. Raises `OSError`."""
        return Top(root, root, os.stat(root).st_dev, _parents(os.path.realpath(root)))  # noqa: PTH116

    def follow(self, link: bytes, parent: Top) -> Top | str:
        """Return the top of the walk of a linked folder, or a message that says why the link isn't followed.

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
            refused = "that folder contains the link, or your home; to index it, name it as a PATH"
        else:
            return Top(parent.root, link, status.st_dev, parent.above | _parents(target))
        return f"a link to {one_line(os.fsdecode(target), 80)} isn't followed: {refused}"

    def is_above(self, status: os.stat_result, top: Top) -> bool:
        """Return whether a folder below a top contains that top, because it is mounted there a second time."""
        return identity(status) in top.above

    def is_state(self, status: os.stat_result, top: Top) -> bool:
        """Return whether a folder below a top is on another file system that holds system state."""
        return status.st_dev != top.device and status.st_dev in self.system


def _is_state(target: bytes, status: os.stat_result) -> bool:
    """Return whether a folder lies in a folder of system state, and on the same device."""
    above = next((folder for folder in _SYSTEM if _is_below(target, folder)), None)
    return above is not None and status.st_dev == os.stat(above).st_dev  # noqa: PTH116


def _separate_devices(folders: Iterable[bytes]) -> frozenset[int]:
    """Return the devices of folders that aren't on the device of `/`."""
    devices: set[int] = set()
    for folder in folders:
        with suppress(OSError):
            devices.add(os.stat(folder).st_dev)  # noqa: PTH116
    return frozenset(devices - {os.stat(_SEPARATOR).st_dev})  # noqa: PTH116


def _kernel_devices() -> frozenset[int]:
    """Return the devices of Linux's mounted file systems of kernel state; empty on systems without a mount list."""
    devices: set[int] = set()
    with suppress(OSError):
        for line in _MOUNTS.read_bytes().splitlines():
            if (mount := _MOUNT.match(line)) and mount["kind"] in _KERNEL:
                devices.add(os.makedev(int(mount["major"]), int(mount["minor"])))
    return frozenset(devices)


def _is_below(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(_SEPARATOR) + _SEPARATOR)


def _parents(path: bytes) -> frozenset[Identity]:
    """Return the folders that contain a real path."""
    folders: set[Identity] = set()
    while (above := os.path.dirname(path)) != path:  # noqa: PTH120
        path = above
        folders |= _itself(path)
    return frozenset(folders)


def _itself(path: bytes) -> frozenset[Identity]:
    try:
        return frozenset({identity(os.stat(path))})  # noqa: PTH116
    except OSError:
        return frozenset()
