"""The exception tree: whose fault it is decides the class, the message says what to do."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

import mmsearch
from mmsearch import (
    DiskFullError,
    FilterError,
    LibraryError,
    MediaError,
    MissingPackageError,
    MMSearchError,
    ModelError,
    ModelUnavailableError,
    NoItemError,
    QueryError,
    Settings,
    TrainingError,
    UsageError,
    WrongModelError,
    errors,
)
from mmsearch.catalog.opening import mapped_errors
from mmsearch.errors import CacheFullError, CatalogFullError, unwritable

THE_CALLERS = (UsageError, QueryError, FilterError, WrongModelError, NoItemError)


def tree() -> set[type[MMSearchError]]:
    kinds = {MMSearchError}
    while more := {sub for kind in kinds for sub in kind.__subclasses__() if sub.__module__ == errors.__name__} - kinds:
        kinds |= more
    return kinds


def test_only_what_the_caller_did_wrong_is_a_usage_error_or_a_value_error() -> None:
    for kind in tree():
        is_callers = kind in THE_CALLERS
        assert issubclass(kind, UsageError) == issubclass(kind, ValueError) == is_callers, kind


def test_the_drawing_of_the_tree_names_every_error() -> None:
    assert errors.__doc__ is not None
    assert all(kind.__name__ in errors.__doc__ for kind in tree())


def test_a_model_that_does_not_exist_is_the_callers_fault_and_still_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(WrongModelError, match="no model is called 'no-such-thing'") as caught:
        mmsearch.open(tmp_path / "library", model="no-such-thing")
    assert isinstance(caught.value, ModelError)
    assert isinstance(caught.value, ValueError)


def test_a_full_disk_is_nobodys_wrong_usage_wherever_it_is_met(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(CatalogFullError) as catalog, mapped_errors(tmp_path / "catalog.sqlite"):
        raise full
    for error in (catalog.value, unwritable(full, "x"), CacheFullError("x")):
        assert isinstance(error, DiskFullError)
        assert not isinstance(error, UsageError)
    assert isinstance(unwritable(full, "x"), LibraryError)
    assert not isinstance(unwritable(PermissionError(errno.EACCES, "denied"), "x"), DiskFullError)
    assert issubclass(CacheFullError, ModelUnavailableError)


def test_what_the_machine_lacks_is_neither_the_librarys_nor_the_callers_fault() -> None:
    for kind in (MissingPackageError, TrainingError, DiskFullError):
        assert not issubclass(kind, (UsageError, LibraryError, ModelError, MediaError))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"device": "gpuu"}, "device is 'gpuu', but has to be one of auto, cpu, cuda"),
        ({"precision": "int3"}, "precision is 'int3', but has to be one of auto, fp32, int8"),
        ({"workers": 0}, "workers is 0, but has to be a whole number above 0"),
        ({"batch": -1}, "batch is -1, but has to be a whole number above 0"),
        ({"batch": 1.5}, "batch is 1.5, but has to be a whole number above 0"),
    ],
)
def test_settings_are_checked_wherever_they_are_made(fields: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Settings(**fields)  # type: ignore[arg-type]
    assert str(caught.value) == said


def test_an_error_that_is_located_stays_the_same_error() -> None:
    class WithDetailsError(MediaError):
        def __init__(self, reason: str, line: int) -> None:
            super().__init__(reason)
            self.line = line

    error = WithDetailsError("broken", 7)  # which can't be made again from its message alone
    error.locate("queries.jsonl, line 3")
    assert (str(error), error.line) == ("queries.jsonl, line 3: broken", 7)
