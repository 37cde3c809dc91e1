"""Vector indexes: caches of the catalog, one for each space and view."""

from mmsearch.vectors.base import Bitmap, VectorIndex, bitmap
from mmsearch.vectors.exact_index import ExactIndex
from mmsearch.vectors.faiss_index import FaissIndex
from mmsearch.vectors.gpu_index import GpuIndex, has_gpu
from mmsearch.vectors.store import IndexStore

__all__ = ["Bitmap", "ExactIndex", "FaissIndex", "GpuIndex", "IndexStore", "VectorIndex", "bitmap", "has_gpu"]
