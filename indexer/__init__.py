"""Indexes media collections into the catalog, in four steps: changes, plan, executor, writer."""

from indexer.facts import fill_facts
from indexer.roots import Scope, check_paths, choose_scope, named_scope, remembered_scope
from indexer.run import IndexOptions, run

__all__ = [
    "IndexOptions",
    "Scope",
    "check_paths",
    "choose_scope",
    "fill_facts",
    "named_scope",
    "remembered_scope",
    "run",
]
