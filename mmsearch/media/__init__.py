"""Files → payloads: which files are media, and how each kind is decoded."""

from mmsearch.media.decode import (
    DECODER_VERSION,
    Decoded,
    DecodeOptions,
    clip_of,
    decode,
    facts_of,
    open_regular,
    still,
)
from mmsearch.media.digest import content_digest, digest_of_bytes, find_sidecars
from mmsearch.media.kinds import EXTENSIONS, HEAD_BYTES, by_name, name_for, resolve
from mmsearch.media.sidecar import Sidecars
from mmsearch.media.text import sentences

__all__ = [
    "DECODER_VERSION",
    "EXTENSIONS",
    "HEAD_BYTES",
    "DecodeOptions",
    "Decoded",
    "Sidecars",
    "by_name",
    "clip_of",
    "content_digest",
    "decode",
    "digest_of_bytes",
    "facts_of",
    "find_sidecars",
    "name_for",
    "open_regular",
    "resolve",
    "sentences",
    "still",
]
