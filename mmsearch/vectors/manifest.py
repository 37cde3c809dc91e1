"""The manifest of a vector index: the files that belong to it, with their counts and checksums."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

FORMAT = 2
MOST_BYTES = 2**22
"""A longer file is not a manifest: 200 kB are enough for 1,000 million vectors."""
MOST_ROWS = 2**32
MOST_SERIAL = 999_999_999
_GENERATION = re.compile(r"(?:base|delta)-[0-9]{6,9}-[0-9]{3,6}\.faiss")
_DELETED = re.compile(r"deleted-[0-9]{6,9}\.npy")
_SERIAL = re.compile(r"(?:base|delta|deleted)-([0-9]{6,9})[-.].*")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that a manifest names: its number of rows or ids, and the checksum of its whole content."""

    name: str
    count: int
    check: int

    @property
    def is_base(self) -> bool:
        """Whether it is a base file rather than a delta."""
        return self.name.startswith("base-")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of an index, and the catalog revision that they represent."""

    dim: int
    revision: int
    serial: int
    generations: tuple[StoredFile, ...]
    deleted: StoredFile | None

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """All files, the deleted ids included."""
        return (*self.generations, self.deleted) if self.deleted else self.generations

    def to_json(self) -> bytes:
        """Return the content of the manifest's file."""
        return json.dumps({"format": FORMAT, **asdict(self)}).encode()


def parse_manifest(content: bytes, dim: int | None = None) -> Manifest | None:
    """Parse a manifest; return None if the content isn't one, or isn't of dimension `dim` where that is given."""
    try:
        fields = json.loads(content)
        stored_dim = _integer(fields["dim"], 2**31)
        if fields["format"] != FORMAT or dim not in (None, stored_dim):
            return None
        generations = tuple(_stored(file, _GENERATION) for file in fields["generations"])
        manifest = Manifest(
            dim=stored_dim,
            revision=_integer(fields["revision"], 2**63),
            serial=_integer(fields["serial"], MOST_SERIAL + 1),
            generations=generations,
            deleted=_stored(fields["deleted"], _DELETED) if fields["deleted"] is not None else None,
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return manifest if len({file.name for file in generations}) == len(generations) else None


def serial_of(name: str) -> int:
    """Return the serial number in the name of an index's file, 0 for any other name."""
    match = _SERIAL.fullmatch(name)
    return int(match[1]) if match else 0


def _stored(fields: dict[str, object], pattern: re.Pattern[str]) -> StoredFile:
    name = fields["name"]
    if not isinstance(name, str) or not pattern.fullmatch(name):
        raise ValueError("it names a file that no index has")
    return StoredFile(name, _integer(fields["count"], MOST_ROWS), _integer(fields["check"], 2**32))


def _integer(value: object, end: int) -> int:
    if type(value) is not int or not 0 <= value < end:  # isinstance would accept a bool
        raise ValueError("it holds an invalid number")
    return value
