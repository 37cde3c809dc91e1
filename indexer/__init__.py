"""Media collections → the catalog: scan, plan, decode, encode, commit."""

from indexer.run import IndexOptions, find_roots, run

__all__ = ["IndexOptions", "find_roots", "run"]
