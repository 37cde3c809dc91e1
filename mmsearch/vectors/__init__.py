"""Vector indexes: caches of the catalog, one for each space and view."""

from mmsearch.vectors.base import Bitmap, VectorIndex, bitmap
from mmsearch.vectors.exact_index import ExactIndex
from mmsearch.vectors.faiss_index import FaissIndex
from mmsearch.vectors.store import IndexStore

__all__ = ["Bitmap", "ExactIndex", "FaissIndex", "IndexStore", "VectorIndex", "bitmap"]
