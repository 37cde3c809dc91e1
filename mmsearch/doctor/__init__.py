"""`mmsearch doctor`: checks everything that a library consists of, and mends what can be mended."""

from mmsearch.doctor.examination import BEFORE_REPAIR, examine

__all__ = ["BEFORE_REPAIR", "examine"]
