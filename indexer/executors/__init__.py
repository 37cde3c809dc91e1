"""Executors decode and encode tasks. Index runs use `local`; `inline` needs no other process."""

from indexer.executors.base import MakeExecutor
from indexer.executors.local import LocalExecutor

make_executor: MakeExecutor = LocalExecutor
"""Makes the executor of an index run."""
