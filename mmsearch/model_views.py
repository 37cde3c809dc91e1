"""Opens the models of a library, each with its view of the catalog and its indexes, and keeps the current one."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mmsearch.adapted_spaces import adapted_folder, check_adapted
from mmsearch.catalog import Catalog, ProfileRow
from mmsearch.errors import CatalogError, ModelError, WrongModelError
from mmsearch.extras import is_installed
from mmsearch.folder import LibraryFolder
from mmsearch.indexes import ExactIndexes, Indexes
from mmsearch.locking import BRIEF
from mmsearch.search.engine import Engine
from mmsearch.settings import Settings
from mmsearch.spaces import Profile, load_profile, resolve_name

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model of a library, with its view of the catalog, its indexes and its search engine."""

    catalog: Catalog
    profile: Profile
    indexes: Indexes
    engine: Engine


class OpenLibrary(Protocol):
    """The part of an open library that evaluation and the doctor use."""

    folder: Path

    def seen(self) -> ModelView:
        """Return the library's current model. Raises `ModelError`."""
        ...


class ModelViews:
    """Opens the models of a library and keeps the current one. If several threads need it, one opens it for all.

    With `create`, a library that has no model yet gets `model`.
    """

    def __init__(
        self, place: LibraryFolder, catalog: Catalog, settings: Settings, model: str | Path, *, create: bool
    ) -> None:
        self._place, self._catalog, self._settings = place, catalog, settings
        self._model, self._create = model, create
        self._guard = threading.Lock()
        self._kept: ModelView | None = None

    def answering_id(self, wanted: Profile | None = None) -> int:
        """Return the id of the current model. A library without one gets `wanted`, or the model it is opened with.

        A library has no model if an older version was interrupted while it created the library.
        """
        current = self._catalog.current
        if current is None:
            if not self._create:
                lost = "lost its model; run 'mmsearch doctor --repair'"
                new = f"has no model yet; run 'mmsearch index PATH --library {self._place.path}'"
                raise CatalogError(f"{self._place.catalog} {lost if self._catalog.profiles() else new}")
            first = wanted or load(self._model, self._place.path, self._settings)
            current = self._catalog.set_profile(first.name, first.pins)
        return current

    def answering(self) -> ModelView:
        """Return the current model; any process may have changed it since the last call."""
        return self.now()[0]

    def now(self) -> tuple[ModelView, int]:
        """Return the current model and the revision of its embeddings."""
        kept = self._kept
        if kept is not None:
            state = kept.catalog.state()
            if state.current == kept.catalog.profile_id:
                return kept, state.revision
        current = self.answering_id()
        with self._guard:
            if self._kept is None or self._kept.catalog.profile_id != current:
                self._kept = self.open(current)
            view = self._kept
        return view, view.catalog.revision

    def keep(self, view: ModelView | None) -> None:
        """Keep this model open while it is the current one; None makes the next call open the current one again."""
        with self._guard:
            self._kept = view

    def row(self, profile_id: int | None = None) -> ProfileRow:
        """Return the catalog's row of a model, by default of the current one."""
        row = self._catalog.beside(profile_id or self.answering_id()).profile
        if row is None:
            raise CatalogError(f"{self._place.catalog} lacks its model; run 'mmsearch doctor --repair'")
        return row

    def refuse_another(self, model: str | Path) -> None:
        """Raise `ModelError` if `model` isn't the library's current model."""
        own = self.row().name
        if model != "auto" and (name := resolve_name(model)) != own:
            raise WrongModelError(
                f"{self._place.path} uses the model {own!r}, not {name!r}; change that with 'mmsearch index PATH "
                f"--model {name} --library {self._place.path}', or choose another --library"
            )

    def open(self, profile_id: int, loaded: Profile | None = None) -> ModelView:
        """Open a model of the library; `loaded` is used if it is this model. Raises `ModelError`."""
        catalog, row = self._catalog.beside(profile_id), self.row(profile_id)
        if loaded is not None and (loaded.name, loaded.pins) == (row.name, row.pins):
            profile = loaded
        else:
            profile = self._load_own(row)
        folder, on_gpu = self._place.path / "indexes", self._settings.device != "cpu"
        kind = Indexes if is_installed("faiss") else ExactIndexes
        indexes = kind(catalog, folder, lambda: self._place.lock(BRIEF, 0.0), on_gpu=on_gpu)
        _log.debug("opened %s as the model %s sees it", self._place.path, profile.name)
        return ModelView(catalog, profile, indexes, Engine(catalog, profile, indexes, self._settings.limits))

    def _load_own(self, row: ProfileRow) -> Profile:
        folder = self._place.path
        check_adapted(self._catalog, folder)
        try:
            return load_profile(row.name, self._settings.device, row.pins, adapted_folder(folder))
        except ModelError as error:
            raise ModelError(
                f"{error} (the library's own model; 'mmsearch index PATH --model OTHER --library {folder}' changes it)"
            ) from error


def load(model: str | Path, folder: Path, settings: Settings) -> Profile:
    """Load the newest state of a model for the library in `folder`. Raises `ModelError`."""
    return load_profile(model, settings.device, own=adapted_folder(folder))
