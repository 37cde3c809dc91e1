"""The manifest of a vector index: which files it consists of, how they are checked, and how it is parsed."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

FORMAT = 2
MOST_BYTES = 2**22
"""A longer manifest isn't ours: 1,000 million vectors are named by 200 kB."""
MOST_ROWS = 2**32
MOST_SERIAL = 999_999_999
_GENERATION = re.compile(r"(?:base|delta)-[0-9]{6,9}-[0-9]{3,6}\.faiss")
_DELETED = re.compile(r"deleted-[0-9]{6,9}\.npy")
_SERIAL = re.compile(r"(?:base|delta|deleted)-([0-9]{6,9})[-.].*")
OWN_NAMES = re.compile(
    rf"(?:{_GENERATION.pattern}|{_DELETED.pattern}|manifest\.json)(?:\.tmp)?"
    rf"|\.(?:{_DELETED.pattern}|manifest\.json)\.[0-9]+"
)
"""The names that an index's files have, finished or left behind by a killed process."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that a manifest names: how many rows or ids it holds, and the checksum of every byte of it."""

    name: str
    count: int
    check: int

    @property
    def is_base(self) -> bool:
        """Whether it is a base file, and not a delta."""
        return self.name.startswith("base-")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index consists of, and the catalog revision that it answers for."""

    dim: int
    revision: int
    serial: int
    generations: tuple[StoredFile, ...]
    deleted: StoredFile | None

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Every file that it names."""
        return (*self.generations, self.deleted) if self.deleted else self.generations

    def to_json(self) -> bytes:
        """Return it as it is stored."""
        return json.dumps({"format": FORMAT, **asdict(self)}).encode()


def parse_manifest(content: bytes, dim: int) -> Manifest | None:
    """Return the manifest of an index of this dimension, None where the content isn't one that mmsearch wrote."""
    try:
        fields = json.loads(content)
        if fields["format"] != FORMAT or _integer(fields["dim"], 2**31) != dim:
            return None
        generations = tuple(_stored(file, _GENERATION) for file in fields["generations"])
        manifest = Manifest(
            dim=dim,
            revision=_integer(fields["revision"], 2**63),
            serial=_integer(fields["serial"], MOST_SERIAL + 1),
            generations=generations,
            deleted=_stored(fields["deleted"], _DELETED) if fields["deleted"] is not None else None,
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return manifest if len({file.name for file in generations}) == len(generations) else None


def serial_of(name: str) -> int:
    """Return the serial in the name of an index's file, 0 for any other name."""
    match = _SERIAL.fullmatch(name)
    return int(match[1]) if match else 0


def _stored(fields: dict[str, object], pattern: re.Pattern[str]) -> StoredFile:
    name = fields["name"]
    if not isinstance(name, str) or not pattern.fullmatch(name):
        raise ValueError("it names a file that isn't an index's")
    return StoredFile(name, _integer(fields["count"], MOST_ROWS), _integer(fields["check"], 2**32))


def _integer(value: object, end: int) -> int:
    if type(value) is not int or not 0 <= value < end:  # a bool is an int, too
        raise ValueError("it holds a number that an index never has")
    return value
