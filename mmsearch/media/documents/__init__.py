"""Documents → sections: words with their page or the heading above them, and pages as pictures."""

from mmsearch.media.documents.document import Document, Section
from mmsearch.media.documents.readers import reader_for

__all__ = ["Document", "Section", "reader_for"]
