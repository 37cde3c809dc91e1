"""Files → payloads: which files are media, and how each kind is decoded."""

from mmsearch.media.decode import DECODER_VERSION, Decoded, DecodeOptions, decode, facts_of, open_regular, still
from mmsearch.media.digest import content_digest, find_sidecars
from mmsearch.media.kinds import EXTENSIONS, HEAD_BYTES, by_name, resolve
from mmsearch.media.sidecar import SIDECAR_ENDINGS, sidecar_names
from mmsearch.media.text import sentences

__all__ = [
    "DECODER_VERSION",
    "EXTENSIONS",
    "HEAD_BYTES",
    "SIDECAR_ENDINGS",
    "DecodeOptions",
    "Decoded",
    "by_name",
    "content_digest",
    "decode",
    "facts_of",
    "find_sidecars",
    "open_regular",
    "resolve",
    "sentences",
    "sidecar_names",
    "still",
]
