"""Media collections → the catalog: scan, plan, decode, encode, commit."""

from indexer.facts import fill_facts
from indexer.run import IndexOptions, find_roots, run

__all__ = ["IndexOptions", "fill_facts", "find_roots", "run"]
