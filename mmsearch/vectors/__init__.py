"""Vector indexes: caches of the catalog, one for each space and view."""

from mmsearch.vectors.base import MOST_ID, Bitmap, VectorIndex, bitmap
from mmsearch.vectors.exact_index import ExactIndex
from mmsearch.vectors.faiss_index import FaissIndex
from mmsearch.vectors.gpu_index import GpuIndex, has_gpu
from mmsearch.vectors.store import LAYOUT, IndexStore, Stamp

__all__ = [
    "LAYOUT",
    "MOST_ID",
    "Bitmap",
    "ExactIndex",
    "FaissIndex",
    "GpuIndex",
    "IndexStore",
    "Stamp",
    "VectorIndex",
    "bitmap",
    "has_gpu",
]
