"""`mmsearch doctor`: checks every part of a library and repairs what can be repaired."""

from mmsearch.doctor.examination import BEFORE_REPAIR, examine

__all__ = ["BEFORE_REPAIR", "examine"]
