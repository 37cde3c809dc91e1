"""Media collections → the catalog: scan, plan, decode, encode, commit."""

from indexer.run import IndexOptions, run

__all__ = ["IndexOptions", "run"]
