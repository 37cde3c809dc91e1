"""Changes the model of a library: the new model embeds all files next to the old one, then replaces it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from mmsearch.catalog import Catalog
from mmsearch.errors import LibraryError, ModelError
from mmsearch.model_views import ModelView, ModelViews
from mmsearch.spaces import Profile
from mmsearch.types import IndexReport

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelChange:
    """Changes the model of the library in `folder`. The caller holds the library's lock."""

    folder: Path
    catalog: Catalog
    views: ModelViews

    def begin(self, wanted: Profile) -> ModelView | None:
        """Begin or continue a change to `wanted` and return that model; None if the library has it already."""
        row = self.views.row()
        if (row.name, row.pins[:1]) == (wanted.name, wanted.pins[:1]) and set(wanted.pins) <= set(row.pins):
            # A later space may be missing on this machine: it is the same model all the same.
            self.catalog.end_change()  # cancels a change to another model
            return None
        return self.views.open(self.catalog.begin_change(wanted.name, wanted.pins), wanted)

    def switch_if_due(self) -> str | None:
        """Switch to the new model if it has embedded everything; return its name, None if it hasn't."""
        change = self.catalog.change
        if change is None or self.catalog.beside(change).count_whole() < sum(self.catalog.count_media().values()):
            return None
        try:
            new = self.views.open(change)
        except ModelError as error:  # the old model still works
            _log.warning("the change of %s to another model is postponed: %s", self.folder, error)
            return None
        return self.switch(new, IndexReport(), prune=False).switched_to

    def switch(self, new: ModelView, report: IndexReport, *, prune: bool) -> IndexReport:
        """Make a model the current one if it has embedded every file, or `prune` drops the others; return the report.

        If the new model embedded no file at all, the switch is refused and nothing is dropped.
        """
        left = new.catalog.count_lacking(new.profile.key)
        if left and (not prune or left == sum(new.catalog.count_media().values())):
            first = Path(os.fsdecode(next(new.catalog.lacking(new.profile.key)).path))
            return replace(report, unreached=left, first_unreached=first)
        new.indexes.catch_up(new.profile)  # before the switch, so that no query has to wait for it
        dropped = new.catalog.switch(new.profile.key, drop=prune)
        if dropped is None:
            raise LibraryError(f"{self.folder} was changed meanwhile; run the same command again")
        self.views.keep(new)
        _log.debug("%s uses the model %s from now on", self.folder, new.profile.name)
        if dropped:
            new.catalog.drop_orphans()
        return replace(report, removed=report.removed + dropped, switched_to=new.profile.name)
